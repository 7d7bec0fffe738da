"""What is told when a prompt, or a text, is given where a checkpoint is expected."""

import sys
from pathlib import Path

import pytest

from mygpt_cli.cli.app import run
from tests.conftest import Command

NO_CHECKPOINT, NO_FLAG, A_TEXT = "there is no checkpoint at", "after the checkpoint", "is a text, not"


@pytest.mark.parametrize(
    ("command", "code", "message", "hint"),
    [
        (["sample", "I walked"], 3, NO_CHECKPOINT, "`mygpt sample --prompt 'I walked'`"),
        (["inspect", "I walked"], 3, NO_CHECKPOINT, "`mygpt inspect --prompt 'I walked'`"),
        (["inspect", "It's"], 3, NO_CHECKPOINT, "the newest runs there: cycle-001; for a text to"),
        (["sample", "cycle-01"], 3, "did you mean 'cycle-001'?", "the newest runs there: cycle-001\n"),
        (["sample", "no/where"], 3, NO_CHECKPOINT, "train one with `mygpt train FILE`\n"),
        (["sample", "cycle-001", "I walked"], 2, NO_FLAG, "`mygpt sample cycle-001 --prompt 'I walked'`"),
        (
            ["inspect", "cycle-001", "I", "walked"],
            2,
            NO_FLAG,
            "`mygpt inspect cycle-001 --prompt 'I walked'`",
        ),
        (["sample", "Tell", "me"], 2, "there is no checkpoint 'Tell'", "`mygpt sample --prompt 'Tell me'`"),
        (["inspect", "I", "walked", "on"], 2, "'I'", "`mygpt inspect --prompt 'I walked on'`"),
        (
            ["sample", "--checkpoint", "cycle-001", "I"],
            2,
            "given twice",
            "for a text to continue, use --prompt",
        ),
        (["sample", "cycle.txt"], 3, A_TEXT, "`mygpt sample --prompt-file cycle.txt` reads it"),
        (["sample", "--checkpoint", "cycle.txt"], 3, A_TEXT, "`mygpt train cycle.txt` trains a model on it"),
        (["inspect", "cycle.txt"], 3, A_TEXT, "`mygpt inspect --text cycle.txt` reads it"),
        (["inspect", "--compare", "cycle.txt"], 3, A_TEXT, "`mygpt train cycle.txt` trains a model on it"),
        (["train", "--resume", "cycle.txt"], 3, A_TEXT, "`mygpt train cycle.txt` trains a model on it"),
        (["train", "--init-from", "cycle.txt"], 3, A_TEXT, "cycle.txt` trains a model on it"),
        (
            ["sample", "checkpoints/cycle-001/best/config.json"],
            3,
            "is not a folder",
            "give checkpoints/cycle-001/best",
        ),
        (["sample", "image.png"], 3, "is not a folder", "a folder with a config.json"),
    ],
)
def test_what_is_no_checkpoint_is_taken_for_what_it_is(
    command: list[str],
    code: int,
    message: str,
    hint: str,
    cycle_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.chdir(cycle_run.parents[1])
    Path("image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    assert run(command) == code
    out, err = capfd.readouterr()
    assert out == ""
    told, _, hinted = err.partition("hint: ")
    assert message in told
    assert hint in hinted


def test_the_most_natural_mistake(mygpt: Command, cycle_run: Path) -> None:
    done = mygpt("sample", "I love", cwd=cycle_run.parents[1])
    assert done.returncode == 3
    assert done.stderr.decode().endswith(
        "for a text to continue, use --prompt: `mygpt sample --prompt 'I love'`\n"
    )
