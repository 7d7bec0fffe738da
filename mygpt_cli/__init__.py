"""mygpt: train a GPT on any text, generate from it, and see how it comes to each word."""

__version__ = "0.1.0"
