"""Modelfiles for ollama."""

from pathlib import Path

import pytest

from mygpt_cli.base.errors import ResourceError, UsageError
from mygpt_cli.checkpoints.modelfile import check_modelfile, write_modelfile


def test_it_names_the_file_and_passes_the_prompt_through(tmp_path: Path) -> None:
    file = tmp_path / "a tale.gguf"
    check_modelfile(file)
    path = write_modelfile(file, context=256, stops=("<|endoftext|>", 'odd"', "\n"), has_template=False)
    assert path == tmp_path / "Modelfile"
    assert path.read_text(encoding="utf-8").splitlines() == [
        "# Written by `mygpt export`.",
        'FROM "./a tale.gguf"',
        'TEMPLATE """{{ .Prompt }}"""',
        "PARAMETER num_ctx 256",
        "PARAMETER temperature 0.8",
        "PARAMETER top_p 0.95",
        'PARAMETER stop "<|endoftext|>"',
    ]
    check_modelfile(file)  # its own can be replaced
    write_modelfile(file, context=8, stops=(), has_template=True)
    assert "TEMPLATE" not in path.read_text(encoding="utf-8")


def test_another_one_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM llama3.2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is not one that mygpt wrote"):
        check_modelfile(tmp_path / "tale.gguf")


def test_names_that_it_cannot_hold_and_places_without_room(tmp_path: Path) -> None:
    for name in ('a"b.gguf', "a\nb.gguf"):
        with pytest.raises(UsageError, match="cannot name"):
            check_modelfile(tmp_path / name)
    (tmp_path / "Modelfile").mkdir()
    with pytest.raises(ResourceError, match="cannot read"):
        check_modelfile(tmp_path / "tale.gguf")
    with pytest.raises(ResourceError, match="cannot write"):
        write_modelfile(tmp_path / "none" / "tale.gguf", context=8, stops=(), has_template=False)
