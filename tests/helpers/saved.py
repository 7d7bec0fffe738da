"""Checkpoints that say which step they are of."""

from pathlib import Path

import torch

from mygpt_cli.checkpoints import saving
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.dataset import Dataset


def save(folder: Path, model: GPT, dataset: Dataset, step: int) -> None:
    """Save a model as training does after this step."""
    optimizer = {"momentum": torch.full((3,), float(step))}
    saving.save(folder, model=model, tokenizer=dataset.tokenizer, state={"step": step}, optimizer=optimizer)
