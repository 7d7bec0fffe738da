"""One text, decoded as a stream: a file, a spooled pipe, or bytes in memory."""

import codecs
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Generator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mygpt_cli.base.errors import ResourceError, TextError
from mygpt_cli.text.encoding import COMMON, UTF8, conversion, likely_encoding, marked_encoding, wide_encoding

BLOCK = 1 << 20
FORMATS = {
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a zip archive or office document",
    b"\x1f\x8b": "gzip-compressed",
    b"\xfd7zXZ\x00": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstandard-compressed",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF87a": "a GIF image",
    b"GIF89a": "a GIF image",
    b"\x7fELF": "an executable",
    b"SQLite format 3\x00": "an SQLite database",
}


class NotTextError(TextError):
    """A file that cannot serve as text; `reason` completes the sentence "the file is ..."."""

    def __init__(self, name: str, reason: str, hint: str = "") -> None:
        super().__init__(f"'{name}' is {reason}", hint or "give a text file in UTF-8")
        self.reason = reason


class UndecodableError(NotTextError):
    """A file whose bytes are not text in the encoding it is read with."""


@dataclass(frozen=True)
class Document:
    """One text: a file, the spooled standard input, or bytes in memory.

    `characters`, `bytes` (of its UTF-8 form, without a byte order mark) and `digest` are known once it
    has been measured.
    """

    name: str
    data: Path | bytes
    errors: str = "strict"
    encoding: str = UTF8
    stamp: tuple[int, int] = (0, 0)
    spool: object = None
    characters: int = 0
    bytes: int = 0
    digest: str = ""

    def chunks(self) -> Generator[str, None, None]:
        """Yield the decoded text in pieces of about a million bytes, the byte order mark dropped.

        Raises TextError for bytes that are not text, and when the file has changed since it was measured.
        """
        with self._open() as file:
            for text in _decode(file, self.name, self.errors, self.encoding):
                # Each time, so that nothing made of a changed text is kept.
                self._check_unchanged(file)
                yield text
            self._check_unchanged(file)

    def measured(self) -> "Document":
        """Return the document with its characters, bytes and digest, after reading it once."""
        characters = size = 0
        digest = hashlib.sha256()
        stamp = self.stamp
        if isinstance(self.data, Path):
            with open_file(self.name, self.data) as file:
                stamp = _stamp(file)
        for text in replace(self, stamp=stamp).chunks():
            encoded = text.encode()
            characters += len(text)
            size += len(encoded)
            digest.update(encoded)
        if not characters:
            raise NotTextError(self.name, "empty")
        return replace(self, stamp=stamp, characters=characters, bytes=size, digest=digest.hexdigest())

    def _open(self) -> BinaryIO:
        if isinstance(self.data, bytes):
            return BytesIO(self.data)
        file = open_file(self.name, self.data)
        try:
            self._check_unchanged(file)
        except TextError:
            file.close()
            raise
        return file

    def _check_unchanged(self, file: BinaryIO) -> None:
        if isinstance(self.data, Path) and _stamp(file) != self.stamp:
            raise TextError(
                f"'{self.name}' changed while it was being read",
                "run the command again once nothing writes to it",
            )


def spooled(name: str, stream: BinaryIO, errors: str, encoding: str = UTF8) -> Document:
    """Copy a stream that can be read only once into a temporary file that goes when the document goes."""
    try:
        with tempfile.NamedTemporaryFile(prefix="mygpt-", delete=False) as file:
            spool = _Spool(Path(file.name))
            shutil.copyfileobj(stream, file, BLOCK)
    except OSError as fault:
        raise ResourceError(
            f"{name} could not be copied to a temporary file: {plain_reason(fault)}",
            "set TMPDIR to a folder with more room",
        ) from fault
    return Document(name, spool.path, errors, encoding, spool=spool)


def is_text(path: Path) -> bool:
    """Whether a path leads to a file that begins as a text does, in whichever encoding."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            _checked(head, str(path), wide_encoding(head) or UTF8)
    except (OSError, NotTextError):
        return False
    return bool(head) and (wide_encoding(head) is not None or b"\0" not in head)


class _Spool:
    """A temporary file, removed when nothing refers to it any more and at exit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, path.unlink, missing_ok=True)


def open_file(name: str, path: Path) -> BinaryIO:
    """Open a file for reading bytes; raises NotTextError when that cannot be done."""
    try:
        return path.open("rb")
    except OSError as fault:
        raise NotTextError(
            name, f"unreadable ({plain_reason(fault)})", "check the file and its permissions"
        ) from fault


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def plain_reason(fault: OSError) -> str:
    """Say what went wrong in the operating system's words, without number and file name."""
    return (fault.strerror or str(fault)).lower()


def _decode(file: BinaryIO, name: str, errors: str, encoding: str) -> Generator[str, None, None]:
    """Decode block by block; raises NotTextError for what is not text, with the byte's offset."""
    block = _read(file, name)
    encoding = _checked(block, name, encoding)
    wide = encoding.startswith(("utf-16", "utf-32"))
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    offset, mark = 0, "" if encoding in ("utf-16", "utf-32") else "\ufeff"  # those codecs take it
    while True:
        pending = len(decoder.getstate()[0])
        if not wide and (nul := block.find(0)) >= 0:
            raise NotTextError(name, f"binary (a NUL byte at offset {offset + nul}), not text")
        try:
            text = decoder.decode(block, not block)
        except UnicodeDecodeError as fault:
            place = f"byte 0x{fault.object[fault.start]:02X} at offset {offset - pending + fault.start}"
            raise _undecodable(name, encoding, place, fault.object) from None
        if wide and "\0" in text:
            raise NotTextError(name, "binary (it has NUL characters), not text")
        if text:
            text, mark = text.removeprefix(mark), ""
        if text:
            yield text
        if not block:
            return
        offset += len(block)
        block = _read(file, name)


def _undecodable(name: str, encoding: str, place: str, data: bytes) -> UndecodableError:
    """Say what a file is not, and what it may be."""
    reason = f"not {encoding.upper()} ({place})"
    if encoding == UTF8 and (likely := likely_encoding(data)):
        other, text = likely
        return UndecodableError(
            name, f"{reason}, but likely {COMMON[other]}: {text}", conversion(name, other)
        )
    return UndecodableError(name, reason, "`--encoding NAME` reads another encoding")


def _read(file: BinaryIO, name: str) -> bytes:
    try:
        return file.read(BLOCK)
    except OSError as fault:
        raise NotTextError(
            name, f"unreadable ({plain_reason(fault)})", "check the file and its disk"
        ) from fault


def _checked(head: bytes, name: str, encoding: str) -> str:
    """Return the encoding to read a file with that begins so; raises NotTextError where it is no such text.

    It has the order of the bytes, where `encoding` does not say it.
    """
    for magic, kind in FORMATS.items():
        if head.startswith(magic):
            raise NotTextError(name, f"{kind}, not text", "convert or unpack it to plain text first")
    asked = codecs.lookup(encoding).name.removesuffix("-sig")
    there = wide_encoding(head) or marked_encoding(head)
    family = asked[:6]  # utf-16 of utf-16-le
    if there is None and family in ("utf-16", "utf-32") and _is_utf8(head):
        there = UTF8
    if there is None:
        return f"{asked}-le" if asked in ("utf-16", "utf-32") else asked
    if not there.startswith(family):
        raise NotTextError(name, f"{there.upper()}, not {asked.upper()}", conversion(name, there))
    return asked if len(asked) > len(family) and len(there) > len(family) else there


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder(UTF8)().decode(head)
    except UnicodeDecodeError:
        return False
    return bool(head) and b"\0" not in head
