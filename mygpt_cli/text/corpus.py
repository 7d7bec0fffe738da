"""Files, folders, globs, standard input or the embedded text, as decoded text split in two.

Text is streamed: no more than a chunk of it is ever held, whatever the size of the files.
"""

import glob
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from mygpt_cli.base.errors import TextError, UsageError, did_you_mean
from mygpt_cli.base.names import name_of
from mygpt_cli.text.document import Document, NotTextError, UndecodableError, open_file, plain_reason, spooled
from mygpt_cli.text.encoding import UTF8, encoding_fault

STDIN = "-"
ERRORS = ("strict", "replace")
VAL_FRACTION = 0.1
# The loss on so many is known to a few thousandths, and more would take from training its time.
MOST_VAL_CHARACTERS = 1_000_000


class Chunk(NamedTuple):
    """A stretch of text, and whether a document ends with it."""

    text: str
    ends_document: bool


@dataclass(frozen=True)
class Skipped:
    """A file found in a folder or by a pattern that is not text, and what it is instead."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Part:
    """The characters from `start` up to `stop` of the documents laid end to end, as a stream.

    `characters` and `bytes` (UTF-8) say how much text there is. Reading twice gives the same chunks.
    """

    documents: tuple[Document, ...]
    start: int
    stop: int
    bytes: int

    @property
    def characters(self) -> int:
        """The number of characters in this part."""
        return self.stop - self.start

    def chunks(self) -> Iterator[Chunk]:
        """Yield the text in order, in chunks that never span two documents and are never empty.

        Raises TextError when a file has changed since the corpus was opened.
        """
        position = 0
        for document in self.documents:
            first = max(0, self.start - position)
            last = min(document.characters, self.stop - position)
            position += document.characters
            if first < last:
                yield from _slice(document, first, last)


@dataclass(frozen=True)
class Corpus:
    """A text for training and one for validation.

    `documents` counts the texts in `sources`; `name` is for naming runs; `fingerprint` is a SHA-256
    over the decoded text, its document boundaries and the split, and does not depend on file names;
    `val_fraction` makes the same split again.
    """

    train: Part
    val: Part
    documents: int
    skipped: tuple[Skipped, ...]
    name: str
    sources: tuple[str, ...]
    fingerprint: str
    val_fraction: float


def open_corpus(
    sources: Sequence[str],
    *,
    errors: str = "strict",
    encoding: str = UTF8,
    val_fraction: float | None = None,
    val_file: str | None = None,
) -> Corpus:
    """Read the sources once, to check and to measure them, and split them for training and validation.

    A source is a file, a folder, a glob pattern or "-" for standard input; no source means the embedded
    text. Of n characters the first int(n * (1 - val_fraction)) train and the rest validates: a tenth
    unless said otherwise, and then a million characters at most. With `val_file` everything in `sources`
    trains. `encoding` is that of all files; `errors` is "strict" or "replace", and says what a byte does that
    is none of it.

    Raises TextError for a text that cannot be used and UsageError for a wrong `errors`, `encoding` or
    `val_fraction` (allowed: above 0, up to 0.5).
    """
    if errors not in ERRORS:
        raise UsageError(f"--errors is '{errors}'", f"use one of: {', '.join(ERRORS)}")
    if fault := encoding_fault(encoding):
        raise UsageError(f"--encoding: {fault}")
    if val_fraction is not None and not 0 < val_fraction <= 0.5:
        raise UsageError(f"--val-fraction is {val_fraction}", "use a number above 0 and at most 0.5")

    documents, skipped = _collect(sources, errors, encoding) if sources else ((_python_reference(),), ())
    total = sum(document.characters for document in documents)
    size = sum(document.bytes for document in documents)
    if val_fraction is None:
        val_fraction = min(VAL_FRACTION, MOST_VAL_CHARACTERS / max(1, total))
    if val_file is None:
        if total < 2:
            raise TextError(
                "the text has one character; at least two are needed, to train on and to validate on",
                "give a longer file, or no file at all for the built-in text",
            )
        # Exact decimals: in floating point 50 * (1 - 0.42) falls just short of 29.
        cut = int(total * (1 - Fraction(repr(float(val_fraction)))))
        train_bytes = _bytes_before(documents, cut)
        train = Part(documents, 0, cut, train_bytes)
        val = Part(documents, cut, total, size - train_bytes)
    else:
        train = Part(documents, 0, total, size)
        documents_val, skipped_val = _collect([val_file], errors, encoding)
        skipped += skipped_val
        val = Part(
            documents_val,
            0,
            sum(document.characters for document in documents_val),
            sum(document.bytes for document in documents_val),
        )
    return Corpus(
        train=train,
        val=val,
        documents=len(documents),
        skipped=skipped,
        name=_name(sources) if sources else "python-reference",
        sources=tuple(sources),
        fingerprint=_fingerprint(train, val),
        val_fraction=val_fraction,
    )


def open_text(source: str, encoding: str = UTF8) -> Part:
    """Read one file, or "-" for standard input, as a whole; raises TextError for what is no text."""
    if source != STDIN and not os.path.lexists(source):
        raise TextError(_missing(source).message, "check the name")
    document = _document(Path(source), False, "strict", encoding).measured()
    return Part((document,), 0, document.characters, document.bytes)


def waits_on_stdin() -> bool:
    """Whether a pipe or a file on standard input has something to read at the moment; reads none of it."""
    if sys.platform == "win32" or sys.stdin is None or sys.stdin.closed:
        return False
    import fcntl
    import termios

    try:
        mode = os.fstat(descriptor := sys.stdin.fileno()).st_mode
        if stat.S_ISREG(mode):
            return os.lseek(descriptor, 0, os.SEEK_CUR) < os.fstat(descriptor).st_size
        waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)) if stat.S_ISFIFO(mode) else b""
    except (OSError, ValueError):  # ValueError: a stream in place of it that is no file
        return False
    return any(waiting)


def _slice(document: Document, first: int, last: int) -> Iterator[Chunk]:
    position = 0
    with closing(document.chunks()) as texts:
        for text in texts:
            wanted = text[max(0, first - position) : last - position]
            position += len(text)
            done = position >= last
            if wanted:
                yield Chunk(wanted, done and last == document.characters)
            # Going on past the last chunk of a document lets it check that the file is still the same.
            if done and last < document.characters:
                break


def _bytes_before(documents: tuple[Document, ...], stop: int) -> int:
    """Count the UTF-8 bytes of the first `stop` characters, reading again only the document that is cut."""
    size = 0
    for document in documents:
        if document.characters <= stop:
            size += document.bytes
        elif stop > 0:
            size += sum(len(chunk.text.encode()) for chunk in _slice(document, 0, stop))
        stop -= document.characters
    return size


def _fingerprint(train: Part, val: Part) -> str:
    lines = [
        f"{part.start} {part.stop} " + " ".join(f"{d.digest}:{d.characters}" for d in part.documents)
        for part in (train, val)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _collect(
    sources: Sequence[str], errors: str, encoding: str
) -> tuple[tuple[Document, ...], tuple[Skipped, ...]]:
    """Measure the texts that the sources name, each file once however often it is named."""
    documents: list[Document] = []
    skipped: list[Skipped] = []
    is_text: dict[str, bool] = {}
    for source in sources:
        holds_text, hint, before = False, "", len(skipped)
        for path, found in _paths(source, skipped):
            key = STDIN if source == STDIN else os.path.realpath(path)  # which takes links in a circle
            if key not in is_text:
                try:
                    documents.append(_document(path, found, errors, encoding).measured())
                    is_text[key] = True
                except NotTextError as fault:
                    if isinstance(fault, UndecodableError):
                        fault.hint += "; `--errors replace` replaces invalid bytes by U+FFFD"
                    if not found:
                        raise
                    hint = hint or fault.hint
                    skipped.append(Skipped(path, fault.reason))
                    is_text[key] = False
            holds_text |= is_text[key]
        if not holds_text:
            raise TextError(
                f"'{source}' holds no text files{_first_reasons(skipped[before:])}",
                hint or "give files of UTF-8 text",
            )
    return tuple(documents), tuple(skipped)


def _first_reasons(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    first = skipped[0]
    more = f", and {len(skipped) - 1} more skipped" if len(skipped) > 1 else ""
    return f" ('{first.path}' is {first.reason}{more})"


def _paths(source: str, skipped: list[Skipped]) -> list[tuple[Path, bool]]:
    """List the files of a source, each with whether it was found (in a folder, by a pattern) or named."""
    if not source:
        raise UsageError("a file name is empty", "is a variable in the command unset?")
    path = Path(source)
    if source == STDIN or (os.path.lexists(source) and not path.is_dir()):
        return [(path, False)]
    if os.path.lexists(source):
        return [(file, True) for file in _walk(path, skipped)]
    if not glob.has_magic(source):
        raise _missing(source)
    # Path.glob takes no absolute patterns.
    matches = sorted(Path(match) for match in glob.glob(source, recursive=True))  # noqa: PTH207
    if not matches:
        raise TextError(f"no file matches '{source}'", "check the folder and the pattern")
    return [(file, True) for path in matches for file in (_walk(path, skipped) if path.is_dir() else [path])]


def _walk(folder: Path, skipped: list[Skipped]) -> list[Path]:
    """List the files below a folder in sorted order, without hidden ones and without the runs of mygpt."""

    def note(fault: OSError) -> None:
        skipped.append(Skipped(Path(fault.filename), f"unreadable ({plain_reason(fault)})"))

    files: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_run(Path(root, name))]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _is_run(folder: Path) -> bool:
    """Whether a folder is one that training made: what it holds is no text to train on."""
    return (folder / "metrics.jsonl").exists() and (folder / "config.toml").exists()


def _missing(source: str) -> TextError:
    path = Path(source)
    try:
        neighbours = [neighbour.name for neighbour in path.parent.iterdir()]
    except (OSError, ValueError):
        neighbours = []
    return TextError(
        f"there is no file or folder '{source}'{did_you_mean(path.name, neighbours)}",
        "check the name, or give no file to use the built-in text",
    )


def _document(path: Path, found: bool, errors: str, encoding: str) -> Document:
    name = str(path)
    if name == STDIN:
        if sys.stdin is None:
            raise TextError("there is no standard input to read", "give a file instead of '-'")
        return spooled("standard input", sys.stdin.buffer, errors, encoding)
    try:
        mode = path.stat().st_mode
    except OSError as fault:
        raise NotTextError(name, f"unreadable ({plain_reason(fault)})", "check the file") from fault
    # A pipe met in a folder may have no writer, and opening it would wait for ever.
    if stat.S_ISFIFO(mode) and not found:
        with open_file(name, path) as pipe:
            return spooled(name, pipe, errors, encoding)
    if not stat.S_ISREG(mode):
        raise NotTextError(name, "not a regular file")
    return Document(name, path, errors, encoding)


def _python_reference() -> Document:
    # Half a megabyte that only this function needs.
    from pydoc_data.topics import topics

    text = "\n".join(topics[key] for key in sorted(topics))
    return Document("the Python language reference", text.encode()).measured()


def _name(sources: Sequence[str]) -> str:
    """Name a corpus after its first source, in characters that any file system takes."""
    first = Path(sources[0])
    if sources[0] == STDIN:
        name = "stdin"
    elif first.is_dir() or not first.exists():
        # Of a pattern, the last folder in front of the wildcards.
        name = next(part for part in reversed(first.absolute().parts) if not glob.has_magic(part))
    else:
        name = first.stem
    name = name_of(name)
    return name if len(sources) == 1 else f"{name}-and-{len(sources) - 1}-more"
