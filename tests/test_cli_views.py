"""The views of texts and weights, as a user asks for them."""

import json
from pathlib import Path

import pytest

from mygpt_cli.cli.app import run
from tests.conftest import CYCLE, Command


@pytest.fixture(scope="module")
def trained(mygpt: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on a text that is there, validated on another one; return the folder of both and of the run."""
    folder = tmp_path_factory.mktemp("views")
    (folder / "story.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(300)))
    (folder / "val.txt").write_text("".join(f"{n} times 2 is {2 * n}.\n" for n in range(60)))
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


def test_bits_per_byte_are_those_that_training_reported(mygpt: Command, trained: Path) -> None:
    """Whatever type the run computed in."""
    (record,) = records(mygpt("inspect", "story-001/last", "--text", "val.txt", "--json", cwd=trained))
    metrics = (trained / "checkpoints" / "story-001" / "metrics.jsonl").read_text().splitlines()
    reported = [event for event in map(json.loads, metrics) if event["event"] == "evaluated"][-1]
    assert record["bits_per_byte"] == pytest.approx(reported["bits_per_byte"], rel=1e-5)
    assert record["nats_per_token"] == pytest.approx(reported["val_loss"], rel=1e-5)
    assert len(record["nats"]) == record["tokens"]  # type: ignore[arg-type]
    assert record["nats"][0] is None  # type: ignore[index]


def test_copied_passages_and_where_they_stand(mygpt: Command, trained: Path) -> None:
    lines = (trained / "story.txt").read_text().splitlines(keepends=True)
    (trained / "mixed.txt").write_text("All new! " + "".join(lines[20:23]) + "And this is not in it.")
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
    assert (record["characters"], record["share"]) == (42, 1.0)
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["characters"] == 200


def test_a_training_text_that_is_gone(
    mygpt: Command, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(trained / "checkpoints" / "story-001", tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    (tmp_path / "story.txt").write_text("Another text.\n" * 9)
    config.write_text(config.read_text().replace(str(trained / "story.txt"), str(tmp_path / "story.txt")))
    arguments = ["inspect", str(tmp_path / "run"), "--text", str(trained / "val.txt")]
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copied"] is None
    assert run(arguments) == 0
    assert "no longer the same" in " ".join(capsys.readouterr().out.split())
    assert run([*arguments, "--copied"]) == 4
    assert "is not at hand" in capsys.readouterr().err


def test_a_checkpoint_and_itself(mygpt: Command, trained: Path) -> None:
    arguments = ("inspect", "story-001/last", "--compare", "story-001/last", "--text", "val.txt")
    (record,) = records(mygpt(*arguments, "--json", cwd=trained))
    assert set(record["changes"]) == {0.0}  # type: ignore[call-overload]
    assert {tensor["distance"] for tensor in record["tensors"]} == {0.0}  # type: ignore[attr-defined]
    done = mygpt(*arguments, cwd=trained, env={"COLUMNS": "60"})
    assert "B predicts the text as well as A." in done.stdout.decode()


def test_runs_with_other_tokenizers(
    trained: Path, cycle_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = str(trained / "checkpoints" / "story-001")
    assert run(["inspect", str(cycle_run), "--compare", run_folder, "--prompt", "I love AI !"]) == 0
    out = capsys.readouterr().out
    assert "Their tokenizers differ" in out
    assert "bits per byte" in out
    assert "next token" not in out


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
    assert "".join(token["text"] for token in record["tokens"]) == Path("val.txt").read_text()
    assert len(record["longest"]) == len(record["frequent"]) == 3
    assert run(["inspect", "story-001", "--tokens"]) == 0
    assert "longest of the vocabulary" in capsys.readouterr().out


def test_standard_input_and_prompts_that_look_like_other_formats(mygpt: Command, trained: Path) -> None:
    data = (trained / "val.txt").read_bytes()
    done = mygpt("inspect", "--tokens", "--text", "-", "--json", cwd=trained, input=data)
    assert records(done)[0]["bytes"] == len(data)
    done = mygpt("inspect", "--tokens", "--prompt", "GIF87a", "--json", cwd=trained)
    assert records(done)[0]["characters"] == 6


def test_weights_are_those_that_were_saved(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mygpt_cli.checkpoint import load

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
    path.write_text("I love é")
    assert run(["inspect", str(cycle_run), "--text", str(path)]) == 4
    assert "character 8" in capsys.readouterr().err
