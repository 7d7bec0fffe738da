"""Tests that follow rules which transformers has had only since some version."""

from importlib.metadata import version

import pytest

from tests.helpers.models import VARIANTS

SINCE = (5, 23)

of_newer_transformers = pytest.mark.skipif(
    tuple(int(part) for part in version("transformers").split(".")[:2]) < SINCE,
    reason=f"transformers follows these rules since {'.'.join(map(str, SINCE))}",
)

# Older versions scale scores in another way where they are not divided by the root of the width.
VARIANTS_OF_TRANSFORMERS = [
    pytest.param(variant, marks=of_newer_transformers if "scores by layer" in variant else ())
    for variant in VARIANTS
]
