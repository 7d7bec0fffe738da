"""Ways of GPUs."""
