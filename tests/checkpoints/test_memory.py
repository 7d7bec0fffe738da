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


THREE = configure("llama", vocab_size=32000, layers=26, heads=32, width=3200, mlp_width=8640, context=2048)


def test_three_billion_weights_are_inspected_where_they_fit_and_else_refused_with_what_does() -> None:
    """They are 3.4 billion: 14 GB in float32, and beside those what the decoder packs."""
    assert not keep_whole(THREE, 22 * GIB, "bfloat16")
    for free, hint in (
        (18 * GIB, "`--quantize int8` would fit"),
        (14 * GIB, "`mygpt sample --quantize bfloat16` would fit"),
        (6 * GIB, "`mygpt sample --quantize int8` would fit"),
        (3 * GIB, "no type of weights is small enough"),
    ):
        with pytest.raises(ResourceError, match="this model takes about 20") as fault:
            keep_whole(THREE, free, "bfloat16")
        assert fault.value.hint == hint


def test_fine_tuning_is_refused_before_any_memory_is_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading the weights takes less than training them: what fits only for that is refused as well."""
    config = checkpoint.load(folder).config
    enough_to_read = bytes_needed(config, "float32")
    monkeypatch.setattr(checkpoint, "available_memory", lambda: enough_to_read)
    monkeypatch.setattr(checkpoint, "GPT", partial(pytest.fail, "a model was made"))
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a cat.\n" * 99, encoding="utf-8")
    assert run(["train", str(text), "--init-from", str(folder), "--steps", "1", "--out", str(tmp_path)]) == 5
    said = " ".join(capsys.readouterr().err.split())
    assert "fine-tuning this model takes at least 0.0 GB of memory" in said
    assert re.search(r"a model of at most 0 million weights would fit", said)


@pytest.mark.parametrize("command", ["sample", "inspect"])
def test_commands_refuse_before_any_memory_is_taken(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "available_memory", lambda: 1000)
    monkeypatch.setattr(checkpoint, "GPT", partial(pytest.fail, "a model was made"))
    assert run([command, str(folder), "--prompt", "a"]) == 5
    assert "this model takes about" in capsys.readouterr().err


VIEWS: tuple[list[str], ...] = (
    [],
    ["--weights"],
    ["--tokens", "--prompt", "a"],
    ["--text", "TEXT"],
    ["--compare", "FOLDER"],
)


def test_a_view_that_decodes_nothing_needs_no_more_than_the_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where not even these fit, they stay in the file, and are looked at there."""
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a cat.", encoding="utf-8")
    config = checkpoint.load(folder).config
    names = {"TEXT": str(text), "FOLDER": str(folder)}
    commands = [["inspect", str(folder), *(names.get(one, one) for one in view), "--json"] for view in VIEWS]
    seen: list[list[str]] = []
    for free in (2**40, bytes_needed(config), bytes_needed(config, mapped=True)):
        monkeypatch.setattr(checkpoint, "available_memory", lambda free=free: free)
        seen.append([])
        for command in commands:
            assert run(command) == 0, capsys.readouterr().err
            seen[-1].append(re.sub(r'"bytes": \d+', "", capsys.readouterr().out))
    assert seen[0] == seen[1] == seen[2]
    for more in (["--prompt", "a"], ["--quantize", "int8"]):  # these need weights of their own
        assert run(["inspect", str(folder), *more]) == 5
        assert "this model takes about" in capsys.readouterr().err
