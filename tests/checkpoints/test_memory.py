"""Models that hardly fit into memory: left in their file, or refused before any memory is taken."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mygpt_cli.backends.choice import decoder_for
from mygpt_cli.backends.cpu.decoder import WEIGHTS
from mygpt_cli.base.errors import ResourceError
from mygpt_cli.checkpoints import checkpoint, layout
from mygpt_cli.checkpoints.checkpoint import Checkpoint, frozen
from mygpt_cli.checkpoints.layout import MANIFEST, STATE
from mygpt_cli.checkpoints.memory import bytes_needed, keep_whole, map_where_needed
from mygpt_cli.cli.app import run
from mygpt_cli.config.sampling import resolve
from mygpt_cli.generation.stream import Sample, generate, read_prompt
from mygpt_cli.model.architectures import configure
from tests.helpers.standins import random_checkpoint

LARGE = configure("nanochat", vocab_size=32000, layers=32, heads=32, width=4096, context=4096)  # 6.7 B
GIB = 2**30


@pytest.fixture(params=["gpt2", "nanochat"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder as from elsewhere, its weights in bfloat16."""
    folder = random_checkpoint(tmp_path / "foreign", arch=request.param)
    for name in (MANIFEST, STATE):
        (folder / name).unlink()
    file = folder / layout.WEIGHTS
    save_file({name: t.bfloat16() for name, t in load_file(file).items()}, file, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


def texts(loaded: Checkpoint, kind: str, libraries: Path) -> list[str]:
    decoder = decoder_for(frozen(loaded.model), kind.replace("float32", "none"), libraries)
    prompts = [read_prompt(loaded.tokenizer, "Once upon", loaded.config.context)]
    sampling = resolve({"temperature": 0.0, "seed": 1, "max_new_tokens": 40})
    events = generate(decoder, loaded.tokenizer, prompts, sampling)
    return [event.text for event in events if isinstance(event, Sample)]


@pytest.mark.parametrize("kind", WEIGHTS)
def test_what_is_left_in_the_file_gives_the_same_text(folder: Path, kind: str, libraries: Path) -> None:
    whole = checkpoint.load(folder)
    mapped = checkpoint.load(folder, is_mapped=lambda config, free: True)
    assert mapped.model.mapped
    for name, weight in mapped.model.named_parameters():
        assert torch.equal(weight.float(), whole.model.get_parameter(name)), name
        inside = weight.ndim == 2 and name not in ("embedding", "positions")
        assert weight.dtype == (torch.bfloat16 if inside else torch.float32), name
    assert texts(mapped, kind, libraries) == texts(whole, kind, libraries)
    assert mapped.model.get_parameter("blocks.0.mlp.up.weight").device.type == "meta"


def test_without_a_compiler_the_model_reads_from_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYGPT_CPU", "none")
    whole, mapped = checkpoint.load(folder), checkpoint.load(folder, is_mapped=lambda config, free: True)
    assert texts(mapped, "bfloat16", tmp_path) == texts(whole, "bfloat16", tmp_path)
    with pytest.raises(ResourceError, match="MYGPT_CPU=none"):
        decoder_for(checkpoint.load(folder, is_mapped=lambda config, free: True).model, "int8", tmp_path)


def test_seven_billion_weights_in_bfloat16_fit_into_24_gib() -> None:
    assert 6.5e9 < bytes_needed(LARGE) / 4 < 7e9
    assert map_where_needed(LARGE, 24 * GIB, "bfloat16")
    assert map_where_needed(LARGE, 24 * GIB, "int8")
    assert not map_where_needed(LARGE, 64 * GIB, "bfloat16")


@pytest.mark.parametrize(
    ("free", "packed", "hint"),
    [
        (24 * GIB, "float32", "--quantize bfloat16` would fit"),
        (12 * GIB, "bfloat16", "--quantize int8` would fit"),
        (6 * GIB, "int8", "no type of weights is small enough"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(free: int, packed: str, hint: str) -> None:
    for refused in (map_where_needed, keep_whole):
        with pytest.raises(ResourceError, match="this model takes about") as fault:
            refused(LARGE, free, packed)
        assert re.search(hint, fault.value.hint)


@pytest.mark.parametrize("command", ["sample", "inspect"])
def test_commands_refuse_before_any_memory_is_taken(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "available_memory", lambda: 1000)
    monkeypatch.setattr(checkpoint, "GPT", partial(pytest.fail, "a model was made"))
    assert run([command, str(folder), "--prompt", "a"]) == 5
    assert "this model takes about" in capsys.readouterr().err
