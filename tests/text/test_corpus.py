import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mygpt_cli.base.errors import ResourceError, TextError, UsageError
from mygpt_cli.text import document
from mygpt_cli.text.corpus import Corpus, Part, open_corpus, waits_on_stdin

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(part: Part) -> str:
    return "".join(chunk.text for chunk in part.chunks())


def whole(corpus: Corpus) -> str:
    return read(corpus.train) + read(corpus.val)


def feed_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data), encoding="ascii"))


# --- What the text is ---------------------------------------------------------------------------------------


def test_no_source_is_the_python_reference() -> None:
    from pydoc_data.topics import topics

    corpus = open_corpus([])
    text = whole(corpus)
    assert (corpus.name, corpus.documents, corpus.sources) == ("python-reference", 1, ())
    assert all(topic in text for topic in topics.values())
    assert text.startswith(topics[min(topics)])


def test_a_file_is_kept_exactly(tmp_path: Path) -> None:
    text = "one\r\ntwo\rthree\n\ttab  é 中 😀\u2028\ufeffinner mark\x1b[0m"
    corpus = open_corpus([write(tmp_path / "My Notes.txt", text)])
    assert whole(corpus) == text
    assert corpus.documents == 1
    assert corpus.name == "My-Notes"
    assert corpus.train.characters + corpus.val.characters == len(text)
    assert corpus.train.bytes + corpus.val.bytes == len(text.encode())
    assert [chunk.ends_document for chunk in corpus.train.chunks()] == [False]
    assert [chunk.ends_document for chunk in corpus.val.chunks()] == [True]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    plain = open_corpus([write(tmp_path / "plain.txt", "some text")])
    marked = open_corpus([write(tmp_path / "marked.txt", b"\xef\xbb\xbfsome text")])
    assert whole(marked) == "some text"
    assert marked.fingerprint == plain.fingerprint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=4), st.floats(0.01, 0.5), st.integers(1, 9))
def test_parts_put_together_are_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], val_fraction: float, block: int
) -> None:
    # Small blocks cut characters apart everywhere.
    monkeypatch.setattr(document, "BLOCK", max(block, 4))
    texts = [text.removeprefix("\ufeff") + "." for text in texts]
    text = "".join(texts)
    try:
        corpus = open_corpus(
            [write(tmp_path / f"{i}.txt", text) for i, text in enumerate(texts)], val_fraction=val_fraction
        )
    except TextError as fault:
        assert len(text) == 1 or "not UTF-8" in fault.message or "not text" in fault.message
        return
    train, val = read(corpus.train), read(corpus.val)
    assert train + val == text
    assert train
    assert val
    for part, content in ((corpus.train, train), (corpus.val, val)):
        assert part.characters == len(content)
        assert part.bytes == len(content.encode())
        assert list(part.chunks()) == list(part.chunks())
        assert all(chunk.text for chunk in part.chunks())
    documents, current = [], ""
    for chunk in (*corpus.train.chunks(), *corpus.val.chunks()):
        current += chunk.text
        if chunk.ends_document:
            documents.append(current)
            current = ""
    assert (documents, current) == (texts, "")
    assert corpus.documents == len(texts)


@pytest.mark.parametrize(
    ("characters", "val_fraction", "train"),
    # The third is 50 * (1 - 0.42) = 28.999999999999996 in floating point.
    [(1_115_394, 0.1, 1_003_854), (10, 0.1, 9), (50, 0.42, 29), (2, 0.1, 1), (3, 0.5, 1), (1000, 0.001, 999)],
)
def test_the_split_counts_characters(
    tmp_path: Path, characters: int, val_fraction: float, train: int
) -> None:
    corpus = open_corpus([write(tmp_path / "a.txt", "é" * characters)], val_fraction=val_fraction)
    assert corpus.train.characters == train
    assert corpus.train.bytes == 2 * train
    assert corpus.val.characters == characters - train


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="needs shared/data/tinyshakespeare.txt")
def test_shakespeare_splits_as_everywhere() -> None:
    corpus = open_corpus([str(SHAKESPEARE)])
    assert (corpus.train.characters, corpus.val.characters) == (1_003_854, 111_540)
    assert whole(corpus) == SHAKESPEARE.read_bytes().decode()


def test_a_validation_file_leaves_everything_to_training(tmp_path: Path) -> None:
    sources = [write(tmp_path / "a.txt", "train on this"), write(tmp_path / "b.txt", "and this")]
    corpus = open_corpus(sources, val_file=write(tmp_path / "v.txt", "check"))
    assert read(corpus.train) == "train on thisand this"
    assert read(corpus.val) == "check"
    assert (corpus.train.bytes, corpus.val.bytes, corpus.documents) == (21, 5, 2)
    assert corpus.fingerprint != open_corpus(sources).fingerprint


def test_fingerprints_depend_on_content_boundaries_and_split_alone(tmp_path: Path) -> None:
    ab = open_corpus([write(tmp_path / "1.txt", "aaaa"), write(tmp_path / "2.txt", "bbbb")])
    same = open_corpus([write(tmp_path / "x" / "p.txt", "aaaa"), write(tmp_path / "x" / "q.txt", "bbbb")])
    assert ab.fingerprint == same.fingerprint
    others = [
        open_corpus([write(tmp_path / "3.txt", "aaaabbbb")]),
        open_corpus([str(tmp_path / "2.txt"), str(tmp_path / "1.txt")]),
        open_corpus([str(tmp_path / "1.txt"), str(tmp_path / "2.txt")], val_fraction=0.5),
        open_corpus([write(tmp_path / "4.txt", "aaaab"), write(tmp_path / "5.txt", "bbb")]),
    ]
    assert len({ab.fingerprint, *(other.fingerprint for other in others)}) == 5


# --- Where it comes from ------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_and_what_is_not_text_is_named(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "B\n")
    write(tmp_path / "a" / "deep" / "z.md", "Z\n")
    write(tmp_path / "a" / "a.py", "A\n")
    write(tmp_path / ".git" / "config", "hidden")
    write(tmp_path / ".hidden", "hidden")
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "image.png", b"\x89PNG\r\n\x1a\n....")
    write(tmp_path / "paper.pdf", b"%PDF-1.7 ....")
    write(tmp_path / "program", b"text first" * 1000 + b"\0")
    write(tmp_path / "latin.txt", "caf\xe9 ol\xe9".encode("latin-1"))
    write(tmp_path / "wide.txt", "wide".encode("utf-16"))
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again.txt").symlink_to(tmp_path / "b.txt")
    corpus = open_corpus([str(tmp_path)])
    assert whole(corpus) == "A\nZ\nB\n"
    assert corpus.documents == 3
    assert corpus.name == tmp_path.name.strip("-._")
    assert {skipped.path.name: skipped.reason for skipped in corpus.skipped} == {
        "empty.txt": "empty",
        "image.png": "a PNG image, not text",
        "paper.pdf": "a PDF document, not text",
        "program": "binary (a NUL byte at offset 10000), not text",
        "latin.txt": "not UTF-8 (byte 0xE9 at offset 3), but likely Windows-1252: café olé",
        "wide.txt": "UTF-16, not UTF-8",
        "broken": "unreadable (no such file or directory)",
    }


def test_globs_and_repeats(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "sub/c.txt", "sub/d.md"):
        write(tmp_path / name, f"{name};")
    assert whole(open_corpus([str(tmp_path / "*.txt")])) == "a.txt;b.txt;"
    assert whole(open_corpus([str(tmp_path / "**" / "*.txt")])) == "a.txt;b.txt;sub/c.txt;"
    assert whole(open_corpus([str(tmp_path / "s*")])) == "sub/c.txt;sub/d.md;"
    first = str(tmp_path / "b.txt")
    twice = open_corpus([first, str(tmp_path / "*.txt"), first])
    assert whole(twice) == "b.txt;a.txt;"
    assert open_corpus([str(tmp_path / "sub" / "*.txt")]).name == "sub"
    assert twice.name == "b-and-2-more"
    literal = write(tmp_path / "odd[1].txt", "a name with brackets")
    assert whole(open_corpus([literal])) == "a name with brackets"


def test_standard_input_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    feed_stdin(monkeypatch, "from a pipe é".encode())
    corpus = open_corpus(["-"])
    assert whole(corpus) == whole(corpus) == "from a pipe é"
    assert (corpus.name, corpus.documents) == ("stdin", 1)
    spool = corpus.train.documents[0].data
    assert isinstance(spool, Path)
    assert spool.exists()
    del corpus
    assert not spool.exists()


def test_standard_input_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "from mygpt_cli.text.corpus import open_corpus; c = open_corpus(['-']); assert c.train.bytes == 9"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        input=b"0123456789",
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_resource_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    feed_stdin(monkeypatch, b"text")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(ResourceError, match="no space left") as caught:
        open_corpus(["-"])
    assert "TMPDIR" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_once_and_ignored_in_a_folder(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"through a pipe"))
    writer.start()
    corpus = open_corpus([str(pipe)])
    writer.join()
    assert whole(corpus) == whole(corpus) == "through a pipe"
    write(tmp_path / "a.txt", "a file")
    corpus = open_corpus([str(tmp_path)])
    assert [skipped.reason for skipped in corpus.skipped] == ["not a regular file"]


# --- What goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words", "hint"),
    [
        (b"", "is empty", ""),
        (b"\xef\xbb\xbf", "is empty", ""),
        (b"x", "one character", ""),
        (b"abc\xe9def", r"byte 0xE9 at offset 3\b", "--errors replace"),
        (b"\xef\xbb\xbfab\xff", r"byte 0xFF at offset 5\b", "--errors replace"),
        (b"a" * (1 << 20) + b"bc\xc3", r"byte 0xC3 at offset 1048578\b", "--errors replace"),
        (
            b"a" * ((1 << 20) - 1) + "é".encode() + b"\xff",
            r"byte 0xFF at offset 1048577\b",
            "--errors replace",
        ),
        (b"\xed\xa0\x80", "byte 0xED at offset 0", "--errors replace"),
        ("wide text".encode("utf-16"), "is UTF-16", "iconv"),
        ("wide text".encode("utf-16-le"), "is UTF-16", "iconv"),
        ("wide text".encode("utf-16-be"), "is UTF-16", "iconv"),
        (b"text\0text", "NUL byte at offset 4", ""),
        (b"\x1f\x8b\x08....", "gzip", "unpack"),
        (b"PK\x03\x04....", "zip", "unpack"),
    ],
)
def test_a_named_file_that_is_no_text_is_an_error(
    tmp_path: Path, content: bytes, words: str, hint: str
) -> None:
    path = write(tmp_path / "some file.txt", content)
    with pytest.raises(TextError, match=words) as caught:
        open_corpus([path])
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4
    if content != b"x":
        assert path in caught.value.message


def test_wrong_bytes_can_be_replaced(tmp_path: Path) -> None:
    content = b"abc\xe9def\xc3"
    corpus = open_corpus([write(tmp_path / "a.txt", content)], errors="replace")
    assert whole(corpus) == content.decode(errors="replace")
    assert corpus.train.bytes + corpus.val.bytes == len(whole(corpus).encode())


def test_missing_files_suggest_their_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "shakespeare.txt", "text")
    with pytest.raises(TextError, match=r"no file or folder .*did you mean 'shakespeare\.txt'"):
        open_corpus([str(tmp_path / "shakespear.txt")])
    with pytest.raises(UsageError, match="a file name is empty"):
        open_corpus([""])
    for missing in ("no/such/place.txt", str(tmp_path / "x" / "y.txt"), "a\0b", "n" * 5000):
        with pytest.raises(TextError, match="no file or folder"):
            open_corpus([missing])
    with pytest.raises(TextError, match="no file matches"):
        open_corpus([str(tmp_path / "*.md")])


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "self.txt").symlink_to("self.txt")
    with pytest.raises(TextError, match="unreadable"):
        open_corpus([str(tmp_path / "self.txt")])
    (tmp_path / "good.txt").write_text("good", encoding="utf-8")
    assert [skipped.path.name for skipped in open_corpus([str(tmp_path)]).skipped] == ["self.txt"]


def test_a_folder_without_text_is_not_told_the_reasons_of_another(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "none").mkdir()
    write(tmp_path / "some" / "a.bin", b"\0\1\2")
    write(tmp_path / "some" / "a.txt", b"text")
    with pytest.raises(TextError, match=r"none' holds no text files$"):
        open_corpus([str(tmp_path / "some"), str(tmp_path / "none")])


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"holds no text files$"):
        open_corpus([str(tmp_path)])
    write(tmp_path / "a.bin", b"\0\1\2")
    write(tmp_path / "b.txt", b"")
    with pytest.raises(TextError, match=r"holds no text files \(.*a\.bin' is binary .*and 1 more skipped\)"):
        open_corpus([str(tmp_path)])


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device file")
def test_devices_are_refused() -> None:
    with pytest.raises(TextError, match="not a regular file"):
        open_corpus(["/dev/null"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "secret.txt", "secret")
    Path(path).chmod(0)
    with pytest.raises(TextError, match="permission denied"):
        open_corpus([path])


def test_unreadable_files_are_named_whoever_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "secret.txt", "secret")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TextError, match=r"secret\.txt' is unreadable \(permission denied\)"):
        open_corpus([path])


@pytest.mark.parametrize("val_fraction", [0.0, -0.1, 0.51, 1.0, float("nan"), float("inf")])
def test_the_fraction_has_a_range(val_fraction: float) -> None:
    with pytest.raises(UsageError, match="--val-fraction"):
        open_corpus([], val_fraction=val_fraction)


def test_errors_is_one_of_two() -> None:
    with pytest.raises(UsageError, match="--errors"):
        open_corpus([], errors="ignore")


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.txt", "some text to train on"))
    corpus = open_corpus([str(path)])
    write(path, "some text to train on, and more")
    with pytest.raises(TextError, match="changed while"):
        read(corpus.train)
    corpus = open_corpus([str(path)])
    os.utime(path, (time.time() + 10, time.time() + 10))
    with pytest.raises(TextError, match="changed while"):
        read(corpus.val)
    corpus = open_corpus([str(path)])
    path.unlink()
    with pytest.raises(TextError, match="unreadable"):
        read(corpus.val)


def test_a_file_that_grows_during_the_reading_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(document, "BLOCK", 8)
    path = Path(write(tmp_path / "a.txt", "x" * 100))
    corpus = open_corpus([str(path)])
    chunks = corpus.val.chunks()
    next(chunks)
    with path.open("a", encoding="utf-8") as file:
        file.write("more")
    with pytest.raises(TextError, match="changed while"):
        list(chunks)


def test_importing_costs_nothing() -> None:
    program = (
        "import sys, mygpt_cli.text.corpus; heavy = {'numpy', 'torch', 'tiktoken', 'pydoc_data.topics'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": root})


def test_of_a_large_text_no_more_is_kept_for_validation_than_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt", "é" * 1234)
    assert open_corpus([path]).val.characters == 124
    monkeypatch.setattr("mygpt_cli.text.corpus.MOST_VAL_CHARACTERS", 100)
    corpus = open_corpus([path])
    assert corpus.val.characters in (100, 101)  # a fraction rounds
    again = open_corpus([path], val_fraction=corpus.val_fraction)
    assert again.fingerprint == corpus.fingerprint
    assert open_corpus([path], val_fraction=0.5).val.characters == 617


@pytest.mark.skipif(sys.platform == "win32", reason="there is no way to ask")
def test_whether_something_waits_on_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipe is never waited for, and nothing is taken out of it."""
    ours, theirs = os.pipe()
    with os.fdopen(ours, encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert not waits_on_stdin()
        os.write(theirs, b"text")
        assert waits_on_stdin()
        os.close(theirs)
        assert pipe.read() == "text"
        assert not waits_on_stdin()
    assert not waits_on_stdin()
    write(tmp_path / "a.txt", "text")
    with (tmp_path / "a.txt").open(encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert waits_on_stdin()
        assert file.read() == "text"
        assert not waits_on_stdin()
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not waits_on_stdin()
    feed_stdin(monkeypatch, b"text")
    assert not waits_on_stdin()
    monkeypatch.setattr(sys, "stdin", None)
    assert not waits_on_stdin()
