"""`mygpt sample` and `mygpt inspect`, run in this process on a small random model."""

import dataclasses
import gc
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from mygpt_cli.backends.cpu.decoder import round_weights
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.checkpoints.checkpoint import load
from mygpt_cli.checkpoints.saving import save
from mygpt_cli.cli.app import run
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Sample, generate, read_prompt
from tests.conftest import COMPILED
from tests.helpers.standins import random_checkpoint

WEIGHTS = "bfloat16" if COMPILED else "float32"  # that are read unless --quantize says otherwise
Captured = pytest.CaptureFixture[bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("command") / "run" / "last").parent


@pytest.fixture(autouse=True)
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data, encoding="ascii"))
    return data


def expected(folder: Path, prompt: str, number: int = 1, **settings: object) -> Sample:
    checkpoint = load(folder)
    round_weights(checkpoint.model, WEIGHTS)
    sampling = Sampling(**({"seed": 5, "max_new_tokens": 20} | settings))  # type: ignore[arg-type]
    start = read_prompt(checkpoint.tokenizer, prompt, checkpoint.config.context)
    events = generate(ReferenceDecoder(checkpoint.model), checkpoint.tokenizer, [start], sampling)
    return next(event for event in events if isinstance(event, Sample) and event.number == number)


def test_stdout_is_exactly_the_text(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "The cat", "--seed", "5"]
    assert run([*flags, "--max-new-tokens", "20"]) == 0
    captured = capsysbinary.readouterr()
    assert captured.out == ("The cat" + expected(folder, "The cat").text).encode("utf-8", "surrogateescape")
    assert captured.err == b""


def test_the_prompt_comes_from_a_file_or_standard_input(
    folder: Path, stdin: io.BytesIO, tmp_path: Path, capsysbinary: Captured
) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--seed", "5", "--max-new-tokens", "20"]
    (tmp_path / "prompt").write_bytes(b"\xef\xbb\xbfA cat\r\n")
    assert run([*flags, "--prompt-file", str(tmp_path / "prompt")]) == 0
    from_file = capsysbinary.readouterr().out
    stdin.write(b"A cat\r\n")
    stdin.seek(0)
    assert run(flags) == 0
    assert capsysbinary.readouterr().out == from_file
    assert from_file.startswith(b"A cat")
    assert not from_file.startswith(b"A cat\r\n")


def test_an_empty_or_closed_standard_input_is_an_empty_prompt(
    folder: Path, stdin: io.BytesIO, capsysbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--seed", "5", "--max-new-tokens", "20"]
    text = expected(folder, "").text.encode("utf-8", "surrogateescape")
    assert run(flags) == 0
    assert capsysbinary.readouterr().out == text
    monkeypatch.setattr(sys, "stdin", None)
    assert run(flags) == 0
    assert capsysbinary.readouterr().out == text


def test_samples_come_in_titled_sections(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--seed", "5", "--max-new-tokens", "20"]
    assert run([*flags, "--num-samples", "3"]) == 0
    texts = [
        expected(folder, "A", number, num_samples=3).text.encode("utf-8", "surrogateescape")
        for number in (1, 2, 3)
    ]
    sections = [b"==> sample %d of 3 <==\nA" % number + text for number, text in enumerate(texts, 1)]
    assert capsysbinary.readouterr().out == b"\n\n".join(sections)


def test_json_has_a_line_for_each_sample(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--max-new-tokens", "20", "--json"]
    assert run([*flags, "--num-samples", "2", "--temperature", "0.5", "--stop", "e"]) == 0
    records = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [record["number"] for record in records] == [1, 2]
    for record in records:
        settings = {"temperature": 0.5, "num_samples": 2, "stop": ("e",)}
        sample = expected(folder, "A", record["number"], seed=record["seed"], **settings)
        assert record["ids"] == list(sample.ids)
        assert record["logprobs"] == pytest.approx(sample.logprobs)
        assert record["reason"] == sample.reason
        assert record["prompt"] == "A"
        assert record["checkpoint"] == str(folder / "last")
        assert record["quantize"] == ("bfloat16" if COMPILED else "none")
        assert set(record["settings"]) | {"seed"} == {f.name for f in dataclasses.fields(Sampling)}
        again = {name: tuple(v) if isinstance(v, list) else v for name, v in record["settings"].items()}
        assert Sampling(seed=5, **again) == Sampling(seed=5, max_new_tokens=20, **settings)  # type: ignore[arg-type]


def test_temperatures_and_prompts_have_sections_of_their_own(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--seed", "5", "--max-new-tokens", "20"]
    flags += ["--prompt", "A", "--prompt", "The cat", "--temperature", "0.3", "--temperature", "1.5"]
    assert run([*flags, "--stats"]) == 0
    sections = []
    for degree in (0.3, 1.5):
        for number, prompt in enumerate(("A", "The cat"), 1):
            text = expected(folder, prompt, temperature=degree).text.encode("utf-8", "surrogateescape")
            title = f"==> temperature {degree}, prompt {number} of 2 <==\n{prompt}"
            sections.append(title.encode() + text)
    captured = capsysbinary.readouterr()
    assert captured.out == b"\n\n".join(sections)
    stats = [line.split(b" tokens in ")[0] for line in captured.err.strip().splitlines()]
    assert stats == [b"note: temperature 0.3: 40", b"note: temperature 1.5: 40"]
    assert run([*flags, "--json"]) == 0
    records = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    told = [
        (record["settings"]["temperature"], record["prompt"], record["prompt_number"]) for record in records
    ]
    assert told == [(0.3, "A", 1), (0.3, "The cat", 2), (1.5, "A", 1), (1.5, "The cat", 2)]


def test_each_line_of_a_file_can_be_a_prompt(folder: Path, tmp_path: Path, capsysbinary: Captured) -> None:
    (tmp_path / "prompts").write_bytes(b"The cat\r\n\nA")
    flags = ["sample", "--checkpoint", str(folder), "--seed", "5", "--max-new-tokens", "20", "--json"]
    assert run([*flags, "--prompt-file", str(tmp_path / "prompts"), "--prompts-by-line"]) == 0
    records = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [record["prompt"] for record in records] == ["The cat", "A"]
    assert [tuple(r["ids"]) for r in records] == [expected(folder, p).ids for p in ("The cat", "A")]


def test_probabilities_are_shown_under_the_text(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--seed", "5", "--max-new-tokens", "3", "--prompt", "A"]
    assert run([*flags, "--show-probs", "--stats"]) == 0
    captured = capsysbinary.readouterr()
    text = ("A" + expected(folder, "A", max_new_tokens=3).text).encode("utf-8", "surrogateescape")
    assert captured.out.startswith(text + b"\n\ntoken")
    assert len(captured.out.removeprefix(text).splitlines()) == 2 + 2 + 3
    assert b"3 tokens in " in captured.err
    assert run([*flags, "--show-probs", "--json"]) == 0
    record = json.loads(capsysbinary.readouterr().out)
    assert [len(top) for top in record["top_logprobs"]] == [5, 5, 5]
    for top in record["top_logprobs"]:
        shown = [entry["logprob"] for entry in top]
        assert shown == sorted(shown, reverse=True)


def test_beams_tell_their_score(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--beams", "4", "--num-samples", "3"]
    assert run([*flags, "--max-new-tokens", "6", "--json"]) == 0
    captured = capsysbinary.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    scores = [record["score"] for record in records]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([sum(r["logprobs"]) / len(r["ids"]) for r in records])
    assert captured.err == b""


def test_filters_that_left_nothing_are_told(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--seed", "1", "--max-new-tokens", "4"]
    every = [flag for token in range(280) for flag in ("--logit-bias", f"{token}=-inf")]
    assert run([*flags, *every]) == 0
    assert b"the filters left no token to choose 4 times" in capsysbinary.readouterr().err


def test_a_text_can_be_favoured_whatever_its_tokens(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--seed", "1", "--max-new-tokens", "8"]
    assert run([*flags, "--logit-bias", " zoo=1000"]) == 0
    assert capsysbinary.readouterr().out == b"A zoo zoo"


def test_a_text_that_ends_inside_what_it_must_begin_with_is_told(
    folder: Path, capsysbinary: Captured
) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--seed", "1", "--begin-with", "zigzag"]
    assert run([*flags, "--max-new-tokens", "2"]) == 0
    told = b"\nnote: --max-new-tokens 2 ended 1 text inside --begin-with\n"
    assert capsysbinary.readouterr() == (b"Azi", told)
    assert run([*flags, "--max-new-tokens", "6"]) == 0
    assert capsysbinary.readouterr() == (b"Azigzag", b"")


def test_a_fresh_seed_is_told_so_that_the_text_can_be_had_again(folder: Path, capsysbinary: Captured) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--max-new-tokens", "20"]
    assert run(flags) == 0
    first = capsysbinary.readouterr()
    assert first.err.startswith(b"\nnote: ")  # on a line of its own where both go to the same place
    seed = first.err.decode().split("--seed ")[1].split()[0]
    assert run([*flags, "--seed", seed]) == 0
    assert capsysbinary.readouterr().out == first.out
    assert run([*flags, "--quiet"]) == 0
    assert capsysbinary.readouterr().err == b""


def test_a_long_prompt_is_told_and_kept(folder: Path, capsysbinary: Captured) -> None:
    prompt = "The cat sat. " * 20
    assert (
        run(["sample", "--checkpoint", str(folder), "--prompt", prompt, "--seed", "1", "--top-k", "1"]) == 0
    )
    captured = capsysbinary.readouterr()
    assert captured.out.startswith(prompt.encode())
    assert b"the model sees only the last 24" in captured.err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--temperature", "-1"], 2, "--temperature must be at least 0, not -1"),
        (["--top-p", "0", "--top-k", "-1"], 2, "2 things are wrong"),
        (["--top-p", "1.5"], 2, "--top-p must be at most 1"),
        (["--temperature", "1", "--temperature", "warm"], 2, "--temperature: 'warm' is not a number"),
        (["--max-new-tokens", "abc", "--top-p", "x", "--seed", ""], 2, "3 things are wrong"),
        (["--max-new-tokens", "abc"], 2, "--max-new-tokens: 'abc' is not a whole number"),
        (["--prompt", "a", "--prompt-file", "b"], 2, "cannot be combined"),
        (["--prompt-file", "missing.txt"], 4, "cannot read missing.txt"),
        (["--prompt", "a\udcff"], 4, "byte 0xff at offset 1"),
        (["--beams", "3", "--temperature", "0.8"], 2, "--temperature has no effect with --beams"),
        (["--beams", "3", "--num-samples", "4"], 2, "is more than the 3 texts that --beams finds"),
        (["--beams", "3", "--show-probs"], 2, "--show-probs"),
        (["--filters", "top-q"], 2, "did you mean 'top-p'?"),
        (["--logit-bias", "999=1"], 2, "there is no token 999"),
        (["--temperature", "1", "--temperature", "-1"], 2, "--temperature must be at least 0"),
        (["--prompts-by-line", "--prompt", "a"], 2, "--prompts-by-line needs a file"),
        (["--interactive", "--prompt", "a"], 2, "--interactive asks for its prompts"),
        (["--device", "gpu"], 2, "there is no device 'gpu'"),
    ],
)
def test_bad_input_gets_a_clear_error(
    folder: Path, flags: list[str], code: int, message: str, capsysbinary: Captured
) -> None:
    assert run(["sample", "--checkpoint", str(folder), *flags]) == code
    captured = capsysbinary.readouterr()
    assert captured.out == b""
    assert captured.err.startswith(b"error: ")
    assert message in captured.err.decode()


def test_the_newest_run_is_the_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["sample"]) == 3
    assert b"mygpt train" in capsysbinary.readouterr().err
    (tmp_path / "checkpoints").symlink_to(folder.parent, target_is_directory=True)
    assert run(["sample", "--prompt", "A", "--top-k", "1", "--max-new-tokens", "3"]) == 0
    assert b"note: using checkpoints/run\n" in capsysbinary.readouterr().err.replace(b"\\", b"/")
    assert run(["inspect"]) == 0
    assert capsysbinary.readouterr().out.startswith(str(Path("checkpoints/run/last")).encode())


def test_inspect_shows_a_checkpoint_and_its_choices(folder: Path, capsysbinary: Captured) -> None:
    assert run(["inspect", str(folder)]) == 0
    assert "280 tokens" in capsysbinary.readouterr().out.decode()
    flags = ["inspect", str(folder), "--prompt", "The cat", "--steps", "3", "--seed", "5"]
    assert run(flags) == 0
    shown = capsysbinary.readouterr().out.decode()
    assert shown.count("▸") == 4  # one in the last line
    assert run([*flags, "--json"]) == 0
    records = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    picked = [c["id"] for record in records for c in record["candidates"] if c["picked"]]
    assert picked == list(expected(folder, "The cat", max_new_tokens=3).ids)
    for record in records:
        for candidate in record["candidates"][:5]:
            assert f"{candidate['logit']:.2f}" in shown


def test_inspect_starts_from_nothing_too(folder: Path, capsysbinary: Captured) -> None:
    assert run(["inspect", str(folder), "--prompt", "", "--steps", "1"]) == 0
    assert "(no text yet)" in capsysbinary.readouterr().out.decode()


def on_a_terminal(folder: Path, *flags: str, **environment: str) -> bytes:
    """Run `mygpt sample` on a pseudo-terminal for stdin and stdout; return what it shows."""
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mygpt_cli", "sample", "--checkpoint", str(folder), *flags]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, env=os.environ | {"TERM": "xterm"} | environment
    ) as process:
        os.close(theirs)
        late = threading.Timer(60, process.kill)
        late.start()
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # how Linux says that the other side has closed
            pass
        assert process.wait(60) == 0
        late.cancel()
    os.close(ours)
    return shown


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_it_does_not_wait_and_shows_controls(folder: Path) -> None:
    flags = ("--seed", "5", "--max-new-tokens", "20", "--num-samples", "2")
    shown = on_a_terminal(folder, *flags)
    assert shown.endswith(b"\n")
    assert b"\x1b[1m==> sample 1 of 2 <==" in shown
    shown = on_a_terminal(folder, "--prompt", "a\x1b[31mb", *flags[:4], NO_COLOR="1", TERM="dumb")
    assert b"\x1b" not in shown
    assert "a␛[31mb".encode() in shown


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break differently")
def test_a_broken_pipe_is_silent(folder: Path) -> None:
    command = [sys.executable, "-m", "mygpt_cli", "sample", "--checkpoint", str(folder), "--prompt", "a\nb"]
    with subprocess.Popen(
        [*command, "--seed", "1", "--max-new-tokens", "500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_run_that_is_not_there_gets_the_nearest_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").symlink_to(folder.parent, target_is_directory=True)
    assert run(["sample", "rum"]) == 3
    assert b"(did you mean 'run'?)" in capsysbinary.readouterr().err
    assert run(["sample", "bose"]) == 3
    assert b"hint: the newest runs there: run; for a text" in capsysbinary.readouterr().err
    assert gc.isenabled()  # it is not while a checkpoint is opened


@pytest.mark.parametrize("kind", ["none", "bfloat16", "int8"])
def test_rounded_weights_write_what_a_model_of_such_weights_does(
    folder: Path, capsysbinary: Captured, kind: str
) -> None:
    flags = ["sample", "--checkpoint", str(folder), "--prompt", "A", "--seed", "5", "--quantize", kind]
    assert run([*flags, "--max-new-tokens", "20", "--json"]) == 0
    record = json.loads(capsysbinary.readouterr().out)
    assert record["quantize"] == kind
    checkpoint = load(folder)
    round_weights(checkpoint.model, "float32" if kind == "none" else kind)
    model = checkpoint.model.eval()
    ids = checkpoint.tokenizer.encode("A")
    for token, logprob in zip(record["ids"], record["logprobs"], strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, -1, : checkpoint.tokenizer.vocab_size]
        assert logits.log_softmax(-1)[token].item() == pytest.approx(logprob, abs=1e-4)
        ids = [*ids, token]


def test_an_unknown_kind_of_weights(folder: Path, capsysbinary: Captured) -> None:
    assert run(["sample", "--checkpoint", str(folder), "--prompt", "A", "--quantize", "int4"]) == 2
    assert b"did you mean 'int8'" in capsysbinary.readouterr().err


def test_numbers_that_overflow_are_an_error_that_names_the_layer(
    folder: Path, tmp_path: Path, capsysbinary: Captured
) -> None:
    broken = load(folder)
    with torch.no_grad():
        broken.model.get_parameter("blocks.1.mlp.up.weight").fill_(3e38)
    save(tmp_path / "broken", model=broken.model, tokenizer=broken.tokenizer, state={})
    assert run(["sample", "--checkpoint", str(tmp_path / "broken"), "--prompt", "A", "--seed", "1"]) == 1
    assert b"not finite numbers: they go wrong in layer 2 of 2" in capsysbinary.readouterr().err
