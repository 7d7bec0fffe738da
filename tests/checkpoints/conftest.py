"""A checkpoint to try things on."""

from pathlib import Path

import pytest

from mygpt_cli.tokens.dataset import Dataset
from tests.helpers.models import random_model
from tests.helpers.saved import save


@pytest.fixture
def saved(tmp_path: Path, tiny_dataset: Dataset) -> Path:
    """Return a folder with a checkpoint of a random model."""
    folder = tmp_path / "model"
    save(
        folder,
        random_model(arch="nanochat", vocab_size=tiny_dataset.tokenizer.vocab_size),
        tiny_dataset,
        step=1,
    )
    return folder
