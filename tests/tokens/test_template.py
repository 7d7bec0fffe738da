from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.tokens.template import Template, read_template, write_template

TOKENS = st.lists(st.sampled_from([("<s>", 1), ("</s>", 2), ("<x>", 7)]), max_size=3).map(tuple)


@given(TOKENS, TOKENS)
def test_what_is_written_is_read(
    before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]
) -> None:
    template = Template(before, after)
    written = write_template(template)
    assert read_template(Path("x"), written) == template
    offsets = {"type": "ByteLevel", "trim_offsets": True}
    assert (
        read_template(Path("x"), {"type": "Sequence", "processors": [offsets, written or offsets]})
        == template
    )


@pytest.mark.parametrize(
    "processor",
    [
        3,
        {"type": "BertProcessing"},
        {"type": "TemplateProcessing", "single": []},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}] * 2},
        {"type": "Sequence", "processors": [{"type": "ByteLevel"}] * 65},
    ],
)
def test_other_processors_are_refused(processor: Any) -> None:
    with pytest.raises(CheckpointError):
        read_template(Path("x"), processor)
