"""The GPT: tensors in, tensors out."""
