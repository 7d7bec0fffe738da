"""Speeds of training that stand for a machine's, in seconds per token."""

from mygpt_cli.config.train import TrainConfig


def slow(config: TrainConfig) -> float:
    """Pretend a speed of 10,000 tokens per second."""
    return 1e-4


def larger_is_slower(config: TrainConfig) -> float:
    """Pretend that of a processor: 10,000 tokens per second with 4 layers of 128."""
    return 1e-4 * (0.2 + 0.8 * config.layers * config.width**2 / (4 * 128**2))
