"""Events and records to the screen; the only package that prints."""
