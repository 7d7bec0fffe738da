"""From logits to text: filters, decoding, streaming."""
