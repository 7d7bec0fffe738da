"""The views of texts and weights, as a user asks for them."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len

from mygpt_cli.cli.app import run
from tests.conftest import CYCLE, Command
from tests.helpers.screens import Terminal, check_harmless


@pytest.fixture(scope="module")
def trained(mygpt: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on a text that is there, validated on another one; return the folder of both and of the run."""
    folder = tmp_path_factory.mktemp("views")
    (folder / "story.txt").write_text(
        "".join(f"{n} times {n} is {n * n}.\n" for n in range(300)), encoding="utf-8"
    )
    (folder / "val.txt").write_text(
        "".join(f"{n} times 2 is {2 * n}.\n" for n in range(60)), encoding="utf-8"
    )
    done = mygpt(
        *("train", "story.txt", "--val-file", "val.txt", "--quiet", "--steps", 20, "--vocab-size", 300),
        *("--keep-every", 10),
        *("--layers", 1, "--heads", 2, "--width", 32, "--context", 32, "--batch-size", 4),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr.decode()
    return folder


def records(done: object) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr.decode()  # type: ignore[attr-defined]
    return [json.loads(line) for line in done.stdout.splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("dtype", "same"), [("float32", 1e-6), ("auto", 1e-4)])
def test_bits_per_byte_are_those_that_training_reported(
    mygpt: Command, trained: Path, dtype: str, same: float
) -> None:
    """Whatever type the run computed in; in bfloat16, two ways of computing differ by their rounding."""
    done = mygpt(
        *("train", "story.txt", "--val-file", "val.txt", "--quiet", "--steps", 20, "--vocab-size", 300),
        *("--layers", 1, "--heads", 2, "--width", 32, "--context", 32, "--batch-size", 4),
        *("--dtype", dtype, "--name", dtype),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr.decode()
    (record,) = records(mygpt("inspect", f"{dtype}-001/last", "--text", "val.txt", "--json", cwd=trained))
    metrics = (
        (trained / "checkpoints" / f"{dtype}-001" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    )
    reported = [event for event in map(json.loads, metrics) if event["event"] == "evaluated"][-1]
    assert record["bits_per_byte"] == pytest.approx(reported["bits_per_byte"], rel=same)
    assert record["nats_per_token"] == pytest.approx(reported["val_loss"], rel=same)
    assert len(record["nats"]) == record["tokens"]  # type: ignore[arg-type]
    assert record["nats"][0] is None  # type: ignore[index]


def test_copied_passages_and_where_they_stand(mygpt: Command, trained: Path) -> None:
    lines = (trained / "story.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (trained / "mixed.txt").write_text(
        "All new! " + "".join(lines[20:23]) + "And this is not in it.", encoding="utf-8"
    )
    (record,) = records(mygpt("inspect", "--text", "mixed.txt", "--json", cwd=trained))
    copied = record["copied"]
    assert isinstance(copied, dict)
    (passage,) = copied["passages"]
    assert (passage["file"], passage["line"]) == (str(trained / "story.txt"), 21)
    assert passage["offset"] == sum(map(len, lines[:20]))
    assert passage["text"] == "".join(lines[20:23])
    assert copied["share"] == len(passage["text"]) / copied["characters"]
    done = mygpt("inspect", "--copied", "--text", "mixed.txt", "--explain", cwd=trained)
    assert "⟦20 times 20 is 400." in done.stdout.decode()
    assert "line 21, from character" in " ".join(done.stdout.decode().split())


def test_what_a_model_knows_by_heart(cycle_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", str(cycle_run), "--copied", "--prompt", "I lo", "--temperature", "0", "--json"]
    assert run([*command, "--steps", "42"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["text"] in CYCLE * 20
    assert record["prompt"] == "I lo"
    assert (record["characters"], record["share"]) == (42, 1.0)
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["characters"] == 200


def test_the_model_writes_for_copied_as_it_does_for_sample(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(trained / "checkpoints" / "story-001"), "--prompt", "7 times", "--seed", "3", "--json"]
    assert run(["inspect", *flags, "--copied", "--steps", "60", "--temperature", "1.5"]) == 0
    copied = json.loads(capsys.readouterr().out)
    assert run(["sample", *flags, "--max-new-tokens", "60", "--temperature", "1.5"]) == 0
    assert copied["text"] == json.loads(capsys.readouterr().out)["text"]


def test_a_training_text_that_is_gone(
    mygpt: Command, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(trained / "checkpoints" / "story-001", tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    (tmp_path / "story.txt").write_text("Another text.\n" * 9, encoding="utf-8")
    config.write_text(
        config.read_text(encoding="utf-8").replace(str(trained / "story.txt"), str(tmp_path / "story.txt")),
        encoding="utf-8",
    )
    arguments = ["inspect", str(tmp_path / "run"), "--text", str(trained / "val.txt")]
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copied"] is None
    assert run(arguments) == 0
    assert "no longer the same" in " ".join(capsys.readouterr().out.split())
    assert run([*arguments, "--copied"]) == 4
    assert "cannot be read" in capsys.readouterr().err


def test_a_checkpoint_and_itself(mygpt: Command, trained: Path) -> None:
    arguments = ("inspect", "story-001/last", "--compare", "story-001/last", "--text", "val.txt")
    (record,) = records(mygpt(*arguments, "--json", cwd=trained))
    assert set(record["changes"]) == {0.0}  # type: ignore[call-overload]
    assert {tensor["distance"] for tensor in record["tensors"]} == {0.0}  # type: ignore[attr-defined]
    done = mygpt(*arguments, cwd=trained, env={"COLUMNS": "60"})
    assert "B predicts the text as well as A." in done.stdout.decode()


def test_the_bars_of_a_comparison_leave_nothing_on_the_terminal(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for other in ("story-001/best", "story-001"):
        assert run(["inspect", "story-001/last", "--compare", other, "--text", "val.txt"]) == 0
    shown = terminal.getvalue()
    assert "loading the model" in shown.partition("reading the text")[2]
    assert "comparing the checkpoints" in shown
    assert terminal.lines() == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--text", "val.txt"], ["loading the model", "reading the text"]),
        (
            ["--copied", "--prompt", "7", "--steps", "20", "--seed", "1"],
            ["loading the model", "writing the text"],
        ),
        (["--prompt", "7", "--steps", "1"], ["loading the model"]),
        (["--weights"], ["loading the model"]),
    ],
)
def test_a_view_tells_on_a_terminal_what_it_is_doing(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    told: list[str],
) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    for quiet in ([], ["--quiet"]):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        assert run(["inspect", "story-001", *flags, *quiet]) == 0
        assert all((words in terminal.getvalue()) is (not quiet) for words in told)
        assert terminal.lines() == []


def test_the_spinner_is_there_before_torch_is(
    cycle_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextmanager
    def waiting(what: str, *, quiet: bool) -> Iterator[None]:
        told.append(what)
        yield

    monkeypatch.setattr("mygpt_cli.ui.progress.waiting", waiting)
    monkeypatch.setattr("mygpt_cli.cli.views.import_module", lambda name: told.append(name))
    assert run(["inspect", str(cycle_run), "--weights"]) == 0
    assert told[:2] == ["loading the model", "torch"]


def test_a_kept_checkpoint_opens_wherever_a_checkpoint_does(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mygpt_cli.checkpoints.checkpoint import load

    monkeypatch.chdir(trained)
    folder = trained / "checkpoints" / "story-001" / "kept" / "000010"
    assert run(["sample", "--checkpoint", "story-001/kept/000010", "--prompt", "7", "--json"]) == 0
    capsys.readouterr()
    assert run(["inspect", "story-001/kept/000010", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["training"]["step"], record["history"]["step"]) == (10, 20)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("7 times 2", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(load(folder).model(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("asked", [[], ["--prompt", "7 times 2 "], ["--text", "val.txt"]])
def test_the_history_of_what_was_kept(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """Each row is what comparing with that checkpoint alone says."""
    monkeypatch.chdir(trained)
    command = ["inspect", "story-001/last", *asked, "--compare"]
    assert run([*command, "story-001", "--json", "--html", "a.html"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 20]
    check_harmless(Path("a.html").read_text(encoding="utf-8"))
    for row, name in zip(rows, ("kept/000010", "kept/000020", "last"), strict=True):
        assert row["folder"].endswith(name)
        assert run([*command, f"story-001/{name}", "--json"]) == 0
        alone = json.loads(capsys.readouterr().out)
        assert row["divergence"] == alone["divergence"]
        assert [text["bits_per_byte"] for text in alone["texts"][1:]] == [row["bits_per_byte"]] * len(
            alone["texts"][1:]
        )
        for said in filter(None, (row["answer"], row["says"])):
            assert any(said.items() <= shift.items() for shift in alone["next"])
        apart = sum(tensor["distance"] ** 2 for tensor in alone["tensors"])
        assert sum(part["distance"] ** 2 for part in row["parts"]) == pytest.approx(apart)
    # The last checkpoint is the one at the last step that was kept.
    assert {part["share"] for part in rows[1]["parts"]} == {0.0}
    for width in ("60", "80", "120"):
        monkeypatch.setenv("COLUMNS", width)
        assert run([*command, "story-001", "--explain"]) == 0
        shown = capsys.readouterr().out
        assert all(cell_len(line) <= int(width) for line in shown.splitlines())
        assert "the last one A" in " ".join(shown.split())


def test_the_history_of_a_run_with_another_tokenizer(
    trained: Path, cycle_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(trained / "checkpoints" / "story-001")
    assert run(["inspect", str(cycle_run), "--compare", kept, "--prompt", "I love AI !"]) == 0
    out = capsys.readouterr().out
    assert "The tokenizers differ" in out
    assert "bits per byte" in out
    assert run(["inspect", str(cycle_run), "--compare", kept]) == 0
    assert "how far the weights of each part are from those of A" in " ".join(capsys.readouterr().out.split())


def test_runs_with_other_tokenizers(
    trained: Path, cycle_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = str(trained / "checkpoints" / "story-001" / "best")
    assert run(["inspect", str(cycle_run), "--compare", run_folder, "--prompt", "I love AI !"]) == 0
    out = capsys.readouterr().out
    assert "Their tokenizers differ" in out
    assert "bits per byte" in out
    assert "next token" not in out
    words = " ".join(out.split())
    assert "tokens are too few to say which is better: --text FILE takes more." in words
    assert "B predicts the text" not in words
    val = str(trained / "val.txt")
    assert (
        run(
            [
                "inspect",
                run_folder,
                "--compare",
                str(trained / "checkpoints/story-001/kept/000010"),
                "--text",
                val,
            ]
        )
        == 0
    )
    words = " ".join(capsys.readouterr().out.split())
    assert re.search(r"B predicts the text worse than A, by 0\.\d+ bits per byte \(± 0\.\d+\)\.", words)


def test_tokens_of_a_prompt_of_a_file_and_of_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    assert run(["inspect", "story-001", "--tokens", "--prompt", "7 times\u202e"]) == 0
    out = capsys.readouterr().out
    assert "\u202e" not in out
    assert "<E2>" in out
    assert run(["inspect", "story-001", "--tokens", "--text", "val.txt", "--json", "--top", "3"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert "".join(token["text"] for token in record["tokens"]) == Path("val.txt").read_text(encoding="utf-8")
    assert len(record["longest"]) == len(record["frequent"]) == 3
    assert run(["inspect", "story-001", "--tokens"]) == 0
    assert "longest of the vocabulary" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--length-penalty", "0", "--no-repeat-ngram", "2"]])
def test_a_beam_search_is_that_of_sample(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.chdir(trained)
    given = ["story-001", "--prompt", "7 times 2", "--beams", "3", "--json", *flags]
    assert run(["inspect", *given, "--steps", "6"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert run(["sample", *given, "--max-new-tokens", "6", "--num-samples", "3"]) == 0
    samples = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [found["ids"] for found in record["found"]] == [sample["ids"] for sample in samples]
    assert [found["score"] for found in record["found"]] == [sample["score"] for sample in samples]
    assert record["text"] == samples[0]["text"]
    assert len(record["steps"]) <= 6
    assert run(["inspect", *given[: -1 - len(flags)], *flags, "--html", "a.html", "--svg", "a.svg"]) == 0
    shown = capsys.readouterr().out
    assert "found, number 1" in shown
    assert "found, number 1" in check_harmless(Path("a.html").read_text(encoding="utf-8")).text
    check_harmless(Path("a.svg").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--beams", "1"], "--beams"),
        (["--beams", "2", "--temperature", "1"], "--temperature has no effect with --beams"),
        (["--beams", "2", "--life"], "--beams and --life are different views"),
        (["--length-penalty", "2"], "--length-penalty has no effect without --beams"),
    ],
)
def test_what_a_beam_search_cannot_be_asked(
    cycle_run: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert run(["inspect", str(cycle_run), "--prompt", "I", *flags]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


MEANT_ILL = "7 \x1b[2J\x07[bold]x[/] <script>alert(1)</script> \u202eabc\u2066 \u200b漢字 e\u0301 "


@pytest.mark.parametrize("flags", [
    ["--steps", "2"], ["--beams", "2"], ["--tour"], ["--temperatures", "0.5,1"], ["--life"], ["--lens"],
    ["--attention"], ["--tokens"], ["--copied", "--steps", "9"], ["--compare", "story-001/last"],
    ["--compare", "story-001"], ["--text"],
])  # fmt: skip
def test_no_view_and_no_export_acts_on_a_text(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    """Escapes, markup, right-to-left marks: on the screen, in pages and in pictures."""
    monkeypatch.chdir(trained)
    text = MEANT_ILL * 2
    Path("ill.txt").write_text(text, encoding="utf-8")
    given = ["--text", "ill.txt"] if flags == ["--text"] else [*flags, "--prompt", text]
    given += [] if flags == ["--tour"] else ["--explain"]  # which a tour does anyway
    files = ["--html", "a.html", "--svg", "a.svg"]
    assert run(["inspect", "story-001", *given, "--seed", "1", *files]) == 0
    captured = capsys.readouterr()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", captured.out)
    page = Path("a.html").read_text(encoding="utf-8")
    check_harmless(page)
    assert '<div id="explore">' in page
    check_harmless(Path("a.svg").read_text(encoding="utf-8"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


@pytest.mark.parametrize("flags", [[], ["--life"], ["--lens"], ["--tokens"], ["--attention"], ["--copied"]])
def test_a_lone_surrogate_is_no_text(
    trained: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    folder, half = str(trained / "checkpoints" / "story-001"), b"7 \xed\xa0\x80"
    assert run(["inspect", folder, *flags, "--prompt", half.decode("utf-8", "surrogateescape")]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the prompt is not UTF-8 text: byte 0xed at offset 2" in captured.err
    (trained / "half.txt").write_bytes(half)
    assert run(["inspect", folder, "--text", str(trained / "half.txt")]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "byte 0xED at offset 2" in captured.err


@pytest.mark.parametrize("flags", [["--steps", "1"], ["--temperatures", "1"], ["--life"], ["--attention"]])
def test_every_view_of_a_prompt_beyond_the_context_says_so(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.chdir(trained)
    assert run(["inspect", "story-001", "--prompt", "7 times 2 is 14.\n" * 40, *flags]) == 0
    assert "the model sees only the last 256" in " ".join(capsys.readouterr().err.split())


def test_standard_input_and_prompts_that_look_like_other_formats(mygpt: Command, trained: Path) -> None:
    data = (trained / "val.txt").read_bytes()
    done = mygpt("inspect", "--tokens", "--text", "-", "--json", cwd=trained, input=data)
    assert records(done)[0]["bytes"] == len(data)
    done = mygpt("inspect", "--tokens", "--prompt", "GIF87a", "--json", cwd=trained)
    assert records(done)[0]["characters"] == 6


def test_weights_are_those_that_were_saved(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mygpt_cli.checkpoints.checkpoint import load

    folder = trained / "checkpoints" / "story-001"
    assert run(["inspect", str(folder), "--weights", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tensors = dict(load(folder).model.named_parameters())
    assert [line["name"] for line in lines] == list(tensors)
    assert all(line["high"] == tensors[line["name"]].max().item() for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--tokens", "--weights", "--copied"], 2, "--tokens and --copied and --weights are different views"),
        (["--text", "a", "--prompt", "b"], 2, "--prompt and --text both give a text"),
        (["--weights", "--prompt", "b"], 2, "--weights shows the tensors"),
        (["--copied"], 2, "--copied needs a text"),
        (["--text", "none.txt"], 4, "there is no file or folder 'none.txt'"),
        (["--tokens", "--text", "."], 4, "not a regular file"),
        (["--compare", "none"], 3, "none"),
    ],
)
def test_what_cannot_be_asked(
    cycle_run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    assert run(["inspect", str(cycle_run), *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err


def test_a_text_that_the_tokenizer_does_not_know(
    cycle_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"I love \xff")
    assert run(["inspect", str(cycle_run), "--text", str(path)]) == 4
    captured = capsys.readouterr().err
    assert "byte 0xFF at offset 7" in captured
    assert "--errors" not in captured
    path.write_text("I love é", encoding="utf-8")
    assert run(["inspect", str(cycle_run), "--text", str(path)]) == 4
    assert "character 8" in capsys.readouterr().err
