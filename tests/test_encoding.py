"""Text files and pipes have their encoding named, so that the locale decides nothing."""

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command

ROOT = Path(__file__).parents[1]
MODES = {"r", "w", "x", "a", "r+", "w+", "x+", "a+", "rt", "wt"}
FILES = ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile")
PIPES = {"text", "universal_newlines"}  # as arguments to subprocess
LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # ASCII, as a stand-in for any other


def unnamed(source: str) -> Iterator[int]:
    """Yield the line of each call that reads or writes text in the encoding of the locale.

    It goes by the names of calls and their modes, and finds what ruff, for want of types, does not.
    """
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        named = {word.arg: word.value for word in call.keywords}
        if {"encoding", None} & set(named):
            continue
        callee = ast.unparse(call.func)
        name = callee.rpartition(".")[2]
        values = {part.value for part in (*call.args, *named.values()) if isinstance(part, ast.Constant)}
        text_by_default = callee in ("open", "os.fdopen") and not values & {"rb", "wb", "ab"}
        if (
            callee.endswith((".read_text", ".write_text"))
            or (name in FILES and (values & MODES or text_by_default))
            or (name == "TextIOWrapper" and len(call.args) < 2)
            or (name in ("run", "Popen", "check_output") and PIPES & set(named))
        ):
            yield call.lineno


def test_every_text_has_its_encoding_named() -> None:
    files = [file for room in ("mygpt_cli", "tests", "benchmarks") for file in (ROOT / room).rglob("*.py")]
    found = [f"{file}:{line}" for file in files for line in unnamed(file.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "call",
    [
        *("path.read_text()", "path.write_text(text)", "path.open('a')", "open(path)", "os.fdopen(number)"),
        *("subprocess.run(command, text=True)", "NamedTemporaryFile('w')", "io.TextIOWrapper(data)"),
    ],
)
def test_what_is_not_named_is_found(call: str) -> None:
    assert list(unnamed(call)) == [1]
    assert list(unnamed(f"{call[:-1]}, encoding='utf-8')".replace("(, ", "("))) == []


@pytest.mark.skipif(os.name == "nt", reason="the locale is set in another way on Windows")
def test_commands_work_where_the_locale_is_not_utf8(tmp_path: Path, mygpt: Command) -> None:
    text = "Zoë naïve café — “ну да” 日本 "
    (tmp_path / "text.txt").write_text(text * 200, encoding="utf-8")
    tiny = ("--layers", 1, "--heads", 1, "--width", 32, "--context", 32, "--steps", 150, "--seed", 1)

    def run(*arguments: object, **options: object) -> str:
        done = mygpt(*arguments, cwd=tmp_path, env=LOCALE, **options)
        assert done.returncode == 0, done.stderr.decode()
        assert b"Error" not in done.stderr
        return done.stdout.decode()

    assert run("train", "text.txt", "--tokenizer", "char", *tiny, "--quiet") == "checkpoints/text-001\n"
    greedy = ("--temperature", 0, "--max-new-tokens", len(text))
    assert run("sample", "--prompt", text, *greedy) == text * 2
    page = ("--html", "page.html", "--json")
    shown = json.loads(run("inspect", "--prompt", text[:-3], "--steps", 1, *page))
    assert shown["context"] == text[:-3]
    assert shown["candidates"][0]["text"] == "日"
    assert "日" in (tmp_path / "page.html").read_text(encoding="utf-8")
