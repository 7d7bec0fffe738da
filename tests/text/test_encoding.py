"""Encodings: named wherever text is read, so that the locale decides nothing; and those of people's texts."""

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mygpt_cli.base.errors import TextError
from mygpt_cli.cli.app import build_app, run
from mygpt_cli.text import document
from mygpt_cli.text.corpus import Part, open_text
from mygpt_cli.text.encoding import COMMON, encoding_fault, likely_encoding, wide_encoding
from tests.conftest import Command

ROOT = Path(__file__).parents[2]


def read(part: Part) -> str:
    return "".join(chunk.text for chunk in part.chunks())


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


# --- Which encoding a text is in ----------------------------------------------------------------------------

QUOTED = "It rained all day.\nShe waited.\n" * 20 + "“Don’t go,” he said.\n" + "It rained on.\n" * 20
ENCODED = {  # what people have, and in which encoding
    "cp1252": "“Où est l’été ?” Les garçons de Besançon étaient déjà là. ",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy. Babička šla domů. ",
    "cp1251": "Однажды весною, в час небывало жаркого заката, в Москве. ",
    "koi8_r": "Однажды весною, в час небывало жаркого заката, в Москве. ",
    "cp1253": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. ",
    "cp932": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "gb18030": "道可道，非常道。名可名，非常名。无名天地之始；有名万物之母。",
}
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("encoding", ENCODED)
def test_the_likely_encoding_is_named(encoding: str) -> None:
    likely = likely_encoding((ENCODED[encoding] * 3).encode(encoding))
    assert likely is not None
    assert likely[0] == encoding
    assert likely[1].rstrip("…") in ENCODED[encoding] * 3
    assert encoding in COMMON


@pytest.mark.parametrize("length", [1, 30, 100_000])
def test_a_few_telling_bytes_suffice_wherever_they_are(length: int) -> None:
    likely = likely_encoding(b"A line. " * length + QUOTED.encode("cp1252"))
    assert likely == ("cp1252", "“Don’t go,” he said.")
    assert likely_encoding(b"a" * length + b" caf\xe9 ol\xe9") == ("cp1252", "café olé")


def test_damaged_utf8_is_in_no_other_encoding() -> None:
    assert likely_encoding("Zoë, Chloë, naïve ".encode() + b"\xff") is None


@given(st.binary(min_size=1).filter(lambda data: not data.isascii()))
def test_anything_can_be_guessed_at(data: bytes) -> None:
    encoding, text = likely_encoding(data) or ("cp1252", "")
    assert encoding in COMMON
    assert len(text) <= 31


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", ["wide text", "Привет, мир!\nЗдравствуй, лето!\n", QUOTED])
def test_wide_texts_are_called_by_their_name(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "wide.txt"
    path.write_bytes(text.encode(encoding))
    assert wide_encoding(path.read_bytes()) == encoding
    with pytest.raises(TextError, match=f"is {encoding.upper()}, not UTF-8") as caught:
        open_text(str(path))
    assert f"`--encoding {encoding}` reads it, `iconv -f UTF-{encoding[4:6]}" in caught.value.hint
    orders = {encoding, encoding[:6], f"{encoding[:6]}-le" if len(encoding) == 6 else encoding}
    for name in orders:  # a byte order mark says more than a name
        assert read(open_text(str(path), name)) == text
    other = "utf-32" if "16" in encoding else "utf-16"
    with pytest.raises(TextError, match=f"{encoding.upper()}, not {other.upper()}"):
        open_text(str(path), other)


@pytest.mark.parametrize(
    "data", [b"text\0text", b"\0\1\2", b"one\0two\0three\0four\0" * 9, b"a\0" * 9 + b"\0"]
)
def test_what_has_nul_bytes_is_not_always_wide(data: bytes) -> None:
    assert wide_encoding(data) is None


def test_a_text_that_is_not_in_the_given_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    for data, encoding, message in (
        (b"plain text", "utf-16", "is UTF-8, not UTF-16"),
        (b"\xef\xbb\xbfmarked", "cp1252", "is UTF-8, not CP1252"),
        (b"ab\x81", "cp1252", "not CP1252 (byte 0x81 at offset 2)"),
        ("語".encode("euc_jp") + b"\xff", "euc_jp", "not EUC_JP (byte 0xFF at offset 2)"),
    ):
        path.write_bytes(data)
        with pytest.raises(TextError, match=re.escape(message)):
            open_text(str(path), encoding)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*WIDE, "utf-8", "utf-8-sig", "gb18030"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1),
    st.integers(4, 40),
)
def test_texts_are_read_as_python_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, text: str, block: int
) -> None:
    monkeypatch.setattr(document, "BLOCK", block)  # cuts characters apart everywhere
    text = f"plain {text}"
    (tmp_path / "text.txt").write_bytes(text.encode(encoding))
    assert read(open_text(str(tmp_path / "text.txt"), encoding)) == text


@pytest.mark.parametrize(
    "name", ["hex", "rot13", "utf-7", "idna", "utf-99", "", "a\0b", "é", "../x", "x" * 999]
)
def test_names_that_are_no_encodings_of_texts(name: str) -> None:
    assert "is not a text encoding" in (encoding_fault(name) or "")


def test_a_misspelt_encoding_is_corrected() -> None:
    assert "did you mean 'windows_1252'?" in (encoding_fault("Windows1252") or "")
    assert encoding_fault("Windows-1252") is encoding_fault("UTF16") is None


def test_a_file_of_an_old_editor_is_trained_on(tmp_path: Path, mygpt: Command) -> None:
    text = tmp_path / "कविता हिंदी.txt"
    text.write_bytes(QUOTED.encode("cp1252"))
    told = mygpt("train", text, cwd=tmp_path)
    assert told.returncode == 4
    assert "but likely Windows-1252: “Don’t go,” he said." in told.stderr.decode()
    assert "`--encoding cp1252` reads it, `iconv -f Windows-1252 -t UTF-8" in told.stderr.decode()
    tiny = ("--tokenizer", "char", "--layers", 1, "--heads", 1, "--width", 16, "--context", 16, "--quiet")
    arguments = ("train", text.name, *tiny, "--steps", 4)
    made = mygpt(*arguments, cwd=tmp_path, env={"MYGPT_ENCODING": "Windows-1252"})
    assert made.returncode == 0, made.stderr.decode()
    run = tmp_path / "checkpoints/कविता-हिंदी-001"
    assert 'encoding = "Windows-1252"' in (run / "config.toml").read_text(encoding="utf-8")
    recorded = json.loads((run / "text.json").read_text(encoding="utf-8"))["files"]
    assert recorded[0]["sha256"] == hashlib.sha256(QUOTED.encode()).hexdigest()
    # The same text is the same, whatever it is in: the run goes on with the converted file.
    text.write_text(QUOTED, encoding="utf-8", newline="")
    again = mygpt(
        "train", "--resume", "कविता-हिंदी-001", "--steps", 6, "--encoding", "utf-8", "-q", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr.decode()


def test_prompts_and_texts_to_inspect_can_be_in_any_encoding(tmp_path: Path, cycle_run: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes("“I love”".encode("cp1252"))
    for command in (["sample", "--prompt-file"], ["inspect", "--text"]):
        with pytest.raises(TextError, match="likely Windows-1252") as caught:
            build_app()([command[0], str(cycle_run), command[1], str(path)], standalone_mode=False)
        assert "--encoding cp1252" in caught.value.hint
        assert "--errors" not in caught.value.hint


def test_a_prompt_in_utf16(tmp_path: Path, cycle_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes("I love".encode("utf-16"))
    greedy = ["--encoding", "utf-16", "--temperature", "0", "--max-new-tokens", "5", "--quiet"]
    assert run(["sample", str(cycle_run), "--prompt-file", str(path), *greedy]) == 0
    assert capfd.readouterr().out == "I love AI !"
    assert run(["sample", str(cycle_run), "--prompt", "I", *greedy]) == 2
    assert "--encoding has no effect, since no file is read" in capfd.readouterr().err
