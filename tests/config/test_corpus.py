"""Each setting of the text reaches the one who opens it."""

from pathlib import Path

import pytest

from mygpt_cli.base.errors import TextError
from mygpt_cli.config.corpus import corpus_of
from mygpt_cli.config.settings import Settings


def test_the_text_is_opened_as_the_settings_say(tmp_path: Path) -> None:
    text, other = tmp_path / "text.txt", tmp_path / "val.txt"
    text.write_bytes("naïve café\n".encode("cp1252") * 40)
    other.write_bytes(b"validation\n" * 3)
    settings: Settings = {"files": (str(text),), "encoding": "cp1252"}
    corpus = corpus_of(settings)
    assert corpus.train.characters + corpus.val.characters == 11 * 40
    half = corpus_of({**settings, "val_fraction": 0.5})
    assert half.train.characters == half.val.characters
    assert corpus_of({**settings, "val_file": str(other)}).val.characters == 33
    with pytest.raises(TextError):
        corpus_of({"files": (str(text),)})
    assert corpus_of({"files": (str(text),), "errors": "replace"}).train.characters
