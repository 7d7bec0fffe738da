"""Tests that follow rules which transformers has had only since some version."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import pytest

from tests.helpers.foreign import FOLDERS
from tests.helpers.models import VARIANTS

SINCE = (5, 23)

of_newer_transformers = pytest.mark.skipif(
    tuple(int(part) for part in version("transformers").split(".")[:2]) < SINCE,
    reason=f"transformers follows these rules since {'.'.join(map(str, SINCE))}",
)

# Older versions scale scores in another way where they are not divided by the root of the width, and read
# another tokenizer from two files.
OTHERWISE = ("scores by layer", "scores not by width", "vocab.json", "merges.txt")


def marked(names: Iterable[str]) -> list[Any]:
    """Return parameters of a test, of which those with a newer rule are skipped beside older versions."""
    return [
        pytest.param(name, marks=of_newer_transformers if any(each in name for each in OTHERWISE) else ())
        for name in names
    ]


VARIANTS_OF_TRANSFORMERS, FOLDERS_OF_TRANSFORMERS = marked(VARIANTS), marked(FOLDERS)
