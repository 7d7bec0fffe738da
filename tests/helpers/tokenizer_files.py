"""Tokenizers, their files, and texts that are hard for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mygpt_cli.tokens.tokenizer import (
    Tokenizer,
)
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.standins import corpus_text

Change = Callable[[dict[str, Any]], object]


def set_at(*path: Any) -> Change:
    """Make a change that sets the value at a path, which ends in the value."""

    def change(root: dict[str, Any]) -> None:
        *steps, last, value = path
        for step in steps:
            root = root[step]
        root[last] = value

    return change


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "<|" not in text)


PROSE = st.text(st.sampled_from("abcé中😀 \t\r\n'sS12.,!\u017f\u0301\u00a0"), max_size=200)


def characters(end_of_text: bool = False) -> Tokenizer:
    return train_tokenizer("char", [corpus_text()], end_of_text=end_of_text)


def save(tokenizer: Tokenizer, folder: Path, model_type: str = "nanochat") -> Path:
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(tokenizer.to_config_json(), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    return folder
