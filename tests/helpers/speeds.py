"""Speeds of training that stand for a machine's, in seconds per token."""

from mygpt_cli.config.train import TrainConfig


def slow(config: TrainConfig, limit: float) -> float:
    """Pretend a speed of 10,000 tokens per second."""
    return 1e-4


def larger_is_slower(config: TrainConfig, limit: float = 1.0, vocabulary: int = 0) -> float:
    """Pretend that of a processor: 10,000 tokens per second with 4 layers of 128 and no vocabulary."""
    return 1e-4 * (config.width + 100) * (config.layers * config.width + vocabulary / 21) / (228 * 4 * 128)
