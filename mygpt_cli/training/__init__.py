"""From tokens and a model to a trained checkpoint."""
