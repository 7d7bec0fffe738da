"""Files to characters."""
