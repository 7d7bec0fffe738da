"""What a model does with a text, as plain records."""
