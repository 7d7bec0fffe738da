"""What a new run and a resumed one have in common."""

from pathlib import Path

import pytest

from mygpt_cli.cli.training import usual_beginning
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import prepare

VERSES = "  Und es war Nacht.\nUnd alles schlief.\nUnd\n\n„Wer?“ rief er.\nWer da?\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (VERSES * 20, "Und"),
        ("Жили они долго.\nЖили хорошо.\n" * 20, "Жили"),
        ("1. Eins\n2. Zwei\n- drei\nDonaudampfschiff fährt.\nAnn: Hallo.\n" * 20, ""),
        ("Es war einmal ein König. " * 20, ""),  # only the first line, which the split has cut
    ],
)
@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_prompt_to_try_comes_from_the_text_itself(
    text: str, word: str, tokenizer: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    dataset = prepare(
        open_corpus([str(path)], val_fraction=0.5), tokenizer=tokenizer, cache=tmp_path / "cache"
    )
    assert usual_beginning(dataset) == word
