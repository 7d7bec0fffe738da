"""Characters to token ids."""
