"""`mygpt inspect` of runs, as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest

from mygpt_cli.checkpoints.runs import Run
from mygpt_cli.cli.app import run
from tests.conftest import Command
from tests.helpers.screens import check_harmless


@pytest.fixture
def copied(cycle_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of a finished run, named to do harm, in a folder of runs that one is in."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(cycle_run, "checkpoints/<script>alert(1)<!--"))


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_a_run_shows_its_curves_and_its_checkpoint(mygpt: Command, cycle_run: Path, width: str) -> None:
    done = mygpt("inspect", cycle_run, env={"COLUMNS": width})
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert any(line.startswith("done: 400 steps, ") for line in lines[1:3])  # a long path takes two lines
    assert all(len(line) <= int(width) for line in lines if str(cycle_run) not in line)
    for shown in ("loss, nats per token", "learning rate", "◆ best", "model      gpt2", "token embedding"):
        assert shown in done.stdout.decode()


def test_where_braille_cannot_be_shown(mygpt: Command, cycle_run: Path) -> None:
    done = mygpt("inspect", cycle_run, env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.isascii()
    assert b"@ best" in done.stdout
    assert b"\\u" not in done.stdout


def test_json_has_every_number(cycle_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(cycle_run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    history = record["history"]
    written = [
        json.loads(line) for line in (cycle_run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for name, event in (("intervals", "progress"), ("validations", "evaluated")):
        wanted = [record for record in written if record["event"] == event]
        assert len(history[name]) == len(wanted) > 2
        for got, there in zip(history[name], wanted, strict=True):
            assert {key: value for key, value in got.items() if key in there}.items() <= there.items()
    assert record["parameters"] > 0
    assert (history["step"], history["share"], history["running"]) == (400, 1.0, False)
    assert run(["inspect", str(cycle_run / "best"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["history"] == history


def test_files_of_a_run_that_means_harm(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (copied / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "noted", "step": 3, "text": "<img src=http://x onerror=y>"}) + "\n")
    assert run(["inspect", copied.name, "--html", "a.html", "--svg", "a.svg"]) == 0
    assert "<script>alert(1)<!--" in capsys.readouterr().out
    page = check_harmless(Path("a.html").read_text(encoding="utf-8").replace("src=http://x", ""))
    assert "<script>alert(1)<!--" in page.text
    check_harmless(Path("a.svg").read_text(encoding="utf-8"))


def test_steps_can_be_kept_too(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", copied.name, "--prompt", "I love", "--steps", "2", "--html", "a.html"]
    assert run([*command, "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert "step 2" in check_harmless(Path("a.html").read_text(encoding="utf-8")).text


def test_a_file_that_cannot_be_written(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", copied.name, "--svg", "none/a.svg"]) == 5
    assert run(["inspect", copied.name, "--svg", "a.png"]) == 2
    assert not Path("a.png").exists()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is no folder" in captured.err


def test_a_run_before_its_first_checkpoint(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("last", "best"):
        shutil.rmtree(copied / name)
    metrics = (copied / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (copied / "metrics.jsonl").write_text("\n".join(metrics[:6]) + '\n{"event": "prog', encoding="utf-8")
    with Run(copied).locked():
        assert run(["inspect", copied.name]) == 0
        captured = capsys.readouterr()
        assert "running: step" in captured.out
        assert " of 400 (" in captured.out
        assert "holds no checkpoint yet" in captured.err
        (copied / "metrics.jsonl").unlink()
        assert run(["inspect", copied.name, "--json", "--quiet"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["history"]["running"] is True
        assert captured.err == ""
        assert run(["inspect", copied.name, "--svg", "a.svg"]) == 0
        assert "nothing measured yet" in capsys.readouterr().out
    # Nothing is going on there, and nothing is there.
    assert run(["inspect", copied.name]) == 3


def test_a_run_of_which_only_kept_checkpoints_are_left(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "kept").mkdir()
    shutil.move(copied / "last", copied / "kept" / "000400")
    shutil.rmtree(copied / "best")
    for name in ((copied.name,), ()):  # without a name it is the newest run, here the only one
        assert run(["inspect", *name]) == 0
        captured = capsys.readouterr()
        assert "done: 400 steps" in captured.out
    kept = copied / "kept" / "000400"
    told = " ".join(captured.err.split())
    assert f"holds no checkpoint in last/ or best/: use the newest that was kept: {kept}" in told
    assert run(["inspect", str(kept)]) == 0
    assert "token embedding" in capsys.readouterr().out


def test_damaged_checkpoints_stay_errors(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("last", "best"):
        (copied / name / "model.safetensors").write_bytes(b"")
    assert run(["inspect", copied.name]) == 3


def test_a_run_without_metrics(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "metrics.jsonl").unlink()
    assert run(["inspect", copied.name]) == 0
    captured = capsys.readouterr()
    assert "nothing measured" in captured.out
    assert "token embedding" in captured.out


@pytest.mark.parametrize("width", ["60", "120"])
@pytest.mark.parametrize(
    "flags", [["--lens"], ["--attention"], ["--attention", "--layer", "2", "--head", "1"]]
)
def test_views_into_the_model(mygpt: Command, cycle_run: Path, flags: list[str], width: str) -> None:
    command = ["inspect", cycle_run, "--prompt", "I love AI ! I lo", "--explain", *flags]
    done = mygpt(*command, env={"COLUMNS": width})
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert "v" in text
    assert all(len(line) <= int(width) for line in text.splitlines())
    assert ("layer 2, head 1" in text) or flags[-1] != "1"


def test_views_agree_on_the_answer(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", copied.name, "--prompt", "I love AI ! I lo", "--json", "--quantize", "none"]
    assert run([*command, "--steps", "1", "--temperature", "0"]) == 0
    step = json.loads(capsys.readouterr().out)["candidates"][0]
    assert run([*command, "--lens", "--html", "a.html"]) == 0
    last = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]
    assert run([*command, "--attention", "--svg", "a.svg"]) == 0
    attention = json.loads(capsys.readouterr().out)
    assert last["answer"] == attention["answer"] == step["id"]
    assert last["guesses"][-1]["probability"] == pytest.approx(step["probability"], abs=1e-6)
    assert attention["probability"] == pytest.approx(step["probability"], abs=1e-6)
    assert attention["contributions"]["logit"] == pytest.approx(step["logit"], abs=1e-4)
    assert "lens" in check_harmless(Path("a.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_the_life_of_a_token(mygpt: Command, cycle_run: Path, width: str) -> None:
    command = ("inspect", cycle_run, "--prompt", "I love", "--life", "--position", 3, "--explain")
    done = mygpt(*command, env={"COLUMNS": width})
    assert done.returncode == 0, done.stderr.decode()
    out = done.stdout.decode()
    assert all(len(line) <= int(width) for line in out.splitlines())
    assert "position 3 of 6  I l\n" in out
    assert "layer 2 of 2" in out
    assert "The text goes on with 'o': the model's number 1," in " ".join(out.split())


def test_life_and_temperatures_as_json_and_as_pages(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", copied.name, "--prompt", "I love", "--seed", "5", "--json"]
    assert run([*command, "--life", "--html", "a.html"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["difference"] < 1e-5
    assert (record["text"], record["bytes"], record["position"]) == ("e", "65", 6)
    assert len(record["heads"]) == 4
    assert record["heads"][0]["attended"][0]["text"] in "I love"
    assert record["choice"]["candidates"][0]["text"] == " "
    assert "prediction" in check_harmless(Path("a.html").read_text(encoding="utf-8")).text
    assert run([*command, "--temperatures", "0.1, 1,2", "--svg", "a.svg"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["temperatures"] == [0.1, 1.0, 2.0]
    assert record["seed"] == 5
    assert all(len(candidate["probabilities"]) == 3 for candidate in record["candidates"])
    check_harmless(Path("a.svg").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--prompt", "I", "--lens", "--attention"], "--lens and --attention are different views"),
        (["--prompt", "I", "--lens", "--steps", "2"], "--steps and --lens are different views"),
        (["--lens"], "--lens shows what each layer would say after a prompt"),
        (
            ["--prompt", "I", "--lens", "--layer", "1"],
            "--layer and --head have no effect",
        ),
        (["--explain"], "--explain has no effect without a view"),
        (["--prompt", "I", "--attention", "--layer", "3"], "--layer 3: the model has layers 1 to 2"),
        (
            ["--prompt", "I", "--life", "--layer", "0", "--head", "3"],
            "--layer 0: the model has layers 1 to 2",
        ),
        (["--prompt", "I", "--life", "--head", "3"], "--head 3: the model has heads 1 to 2"),
        (["--prompt", "I", "--attention", "--head", "0"], "--head 0: the model has heads 1 to 2"),
        (["--life"], "--life shows the life of a token of a prompt"),
        (["--temperatures", "1,2"], "--temperatures shows the choice after a prompt"),
        (["--prompt", "I", "--life", "--steps", "2"], "--steps and --life are different views"),
        (["--prompt", "I", "--life", "--temperatures", "1"], "--temperatures and --life are different"),
        (["--prompt", "I", "--position", "1"], "--position has no effect without --life"),
        (["--prompt", "I", "--life", "--position", "2"], "the prompt has positions 1 to 1"),
        (
            ["--prompt", "I", "--temperatures", "1,x"],
            "--temperatures must be numbers separated",
        ),
        (["--prompt", "I", "--temperatures", "1,-1"], "--temperature must be"),
        (["--prompt", "I", "--temperatures", "1,nan"], "--temperature"),
        (["--prompt", "I", "--temperatures", "1", "--temperature", "0"], "cannot be combined"),
        (["--prompt", "I", "--tour", "--temperature", "0.8"], "--tour shows the filters with settings of"),
        (["--prompt", "I", "--tour", "--top", "3"], "--top and --explain have no effect with --tour"),
        (["--prompt", "I", "--lens", "--temperature", "0.5"], "--temperature has no effect with --lens"),
        (["--text", "x", "--top-k", "5", "--ban", "a"], "--ban and --top-k have no effect with --text"),
        (["--top", "3"], "--top has no effect without a prompt"),
        (["--prompt", "I", "--attention", "--top", "3"], "--top has no effect with --attention"),
        (["--copied", "--text", "x", "--steps", "3"], "--steps has no effect with --copied of a file"),
        (["--prompt", "I", "--tour", "--explain"], "--top and --explain have no effect with --tour"),
    ],
)
def test_views_that_cannot_be_shown(
    cycle_run: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert run(["inspect", str(cycle_run), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err


def test_a_prompt_longer_than_the_context_says_so(
    cycle_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(cycle_run), "--prompt", "I love AI ! " * 9, "--lens"]) == 0
    captured = capsys.readouterr()
    assert "the model sees only the last 48" in captured.err
    assert "position 108" in captured.out


def test_open_shows_a_page_from_a_temporary_file(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def opens(url: str) -> bool:
        shown.append(url)
        return True

    monkeypatch.setattr("tempfile.tempdir", str(copied))
    monkeypatch.setattr("webbrowser.open", opens)
    assert run(["inspect", copied.name, "--prompt", "I love", "--steps", "2", "--open", "--seed", "1"]) == 0
    (page,) = copied.glob("mygpt-*.html")
    assert shown == [page.resolve().as_uri()]
    found = check_harmless(page.read_text(encoding="utf-8"))
    assert copied.name in found.text
    assert len(found.data["steps"]) == 2
