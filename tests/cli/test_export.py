"""`mygpt export`, from a text to a file that others run."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers

from mygpt_cli.checkpoints.checkpoint import load
from mygpt_cli.cli.app import run
from tests.helpers.foreign_tokenizers import HARD, random_strings
from tests.helpers.standins import random_checkpoint

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small llama and a qwen3 on the same text; return the folder of their runs."""
    folder = tmp_path_factory.mktemp("export")
    text = "".join(f"{n} times {n} is {n * n}; I'LL say it's so, as it was.\n" for n in range(400))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    shape = {"layers": 1, "heads": 2, "width": 64, "context": 32, "vocab-size": 300, "steps": 20}
    options = [word for name, number in shape.items() for word in (f"--{name}", str(number))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYGPT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MYGPT_OUT", str(folder / "checkpoints"))
        for arch in ("qwen3", "llama"):
            assert (
                run(["train", str(folder / "text.txt"), "--arch", arch, "--name", arch, *options, "-q"]) == 0
            )
    return folder / "checkpoints"


@pytest.mark.parametrize(("arch", "pattern"), [("llama", "llama-bpe"), ("qwen3", "qwen2")])
def test_a_fresh_run_is_what_others_know(arch: str, pattern: str, runs: Path, tmp_path: Path) -> None:
    folder = runs / f"{arch}-001" / "best"
    ours = load(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (*HARD, *random_strings(300)):
        assert theirs.encode(text) == ours.tokenizer.encode(text), text
    ids = torch.arange(30)[None]
    with torch.no_grad():
        logits = transformers.AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        assert torch.allclose(logits, ours.model(ids), atol=1e-4)
    assert run(["export", str(folder), str(tmp_path / "model.gguf"), "--quiet"]) == 0
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == pattern
    assert fields["general.architecture"].contents() == arch


def test_it_says_what_it_wrote_and_compared(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tale.gguf"
    assert run(["export", str(runs / "llama-001"), str(file), "--type", "q8_0", "--modelfile"]) == 0
    shown = capsys.readouterr().out
    assert "3 tensors in f32: the same numbers" in shown
    assert "9 tensors in q8_0: rounded to 8 bits, at most 0.0" in shown
    assert "merges: the same" in shown
    assert "ollama create tale -f" in shown and "ollama run tale" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Modelfile", "tale.gguf"]


def test_json_has_all_of_it(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "My tale.gguf"
    words = ["export", str(runs / "qwen3-001"), str(file), "--type", "f32", "--modelfile", "--json"]
    assert run(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["bytes"] == file.stat().st_size
    assert record["tensors"] == {"f32": 14}
    assert record["tokens"] > 260 and record["merges"] > 10
    assert record["modelfile"] == str(tmp_path / "Modelfile")
    assert record["commands"] == [f"ollama create my-tale -f {tmp_path / 'Modelfile'}", "ollama run my-tale"]


def test_without_a_checkpoint_it_is_the_newest_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MYGPT_OUT", str(runs))
    file = tmp_path / "tale.gguf"
    for words in ([str(file)], ["qwen3-001", str(file)]):
        assert run(["export", *words, "-q"]) == 0
        assert capsys.readouterr() == (f"{file}\n", "")
    assert gguf.GGUFReader(file).fields["general.architecture"].contents() == "qwen3"


def test_what_cannot_be_exported(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llama, file = str(runs / "llama-001"), str(tmp_path / "tale.gguf")
    nanochat, gpt2 = (str(random_checkpoint(tmp_path / arch, arch=arch)) for arch in ("nanochat", "gpt2"))
    (tmp_path / "folder.gguf").mkdir()
    cases: list[tuple[list[str], int, str, str]] = [
        ([], 2, "there is no file to write to", "mygpt export CHECKPOINT FILE.gguf"),
        ([llama], 2, "there is no file to write to", "llama-001 FILE.gguf"),
        ([llama, "tale.bin"], 2, "exports only .gguf files", "name it tale.gguf"),
        ([llama, file, "--type", "q8"], 2, "did you mean 'q8_0'?", "smallest"),
        ([llama, str(tmp_path / "none" / "a.gguf")], 5, "there is no folder", "an existing folder"),
        ([llama, str(tmp_path / "folder.gguf")], 5, "it is not a file", "an existing folder"),
        ([nanochat, file], 3, "llama.cpp has no nanochat models", "`mygpt train FILE`"),
        ([gpt2, file], 3, "splits text by a pattern that is not GPT-2's", "`mygpt train FILE`"),
        ([str(tmp_path / "nothing"), file], 3, "there is no checkpoint", ""),
    ]
    for words, code, message, hint in cases:
        assert run(["export", *words]) == code, words
        told = " ".join(capsys.readouterr().err.split())
        assert message in told and hint in told, told
    (tmp_path / "Modelfile").write_text("FROM llama3.2\n", encoding="utf-8")
    assert run(["export", llama, file, "--modelfile"]) == 2
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert run(["export", llama, file]) == 2
    assert "pip install gguf" in capsys.readouterr().err
    assert not (tmp_path / "tale.gguf").exists()


def test_what_the_user_should_know_is_told(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(runs / "qwen3-001" / "best", tmp_path / "model")
    (copy / "manifest.json").unlink()
    (copy / "training_state.json").unlink()
    root = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    root["normalizer"] = {"type": "NFC"}
    (copy / "tokenizer.json").write_text(json.dumps(root), encoding="utf-8")
    assert run(["export", str(copy), str(tmp_path / "tale.gguf")]) == 0
    assert "does not bring text into the form NFC" in " ".join(capsys.readouterr().err.split())
