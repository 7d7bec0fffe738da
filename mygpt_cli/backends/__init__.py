"""Faster ways to compute what the model defines."""
