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

from mygpt_cli.errors import ResourceError, TextError

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


@dataclass(frozen=True)
class Document:
    """One text: a file, the spooled standard input, or bytes in memory.

    `characters`, `bytes` (of its UTF-8 form, without a byte order mark) and `digest` are known once it
    has been measured.
    """

    name: str
    data: Path | bytes
    errors: str = "strict"
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
            for text in _decode(file, self.name, self.errors):
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


def spooled(name: str, stream: BinaryIO, errors: str) -> Document:
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
    return Document(name, spool.path, errors, spool=spool)


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


def _decode(file: BinaryIO, name: str, errors: str) -> Generator[str, None, None]:
    """Decode UTF-8 block by block; raises NotTextError for what is not text, with the byte's offset."""
    block = _read(file, name)
    _check_format(block, name)
    offset = 0
    if block.startswith(codecs.BOM_UTF8):
        offset = len(codecs.BOM_UTF8)
        file.seek(offset)
        block = _read(file, name)
    rest = b""
    while block or rest:
        if (nul := block.find(0)) >= 0:
            raise NotTextError(name, f"binary (a NUL byte at offset {offset + len(rest) + nul}), not text")
        data = rest + block
        try:
            text, used = codecs.utf_8_decode(data, errors, not block)
        except UnicodeDecodeError as fault:
            raise NotTextError(
                name,
                f"not UTF-8 (byte 0x{data[fault.start]:02X} at offset {offset + fault.start})",
                "`--errors replace` puts U+FFFD in place of wrong bytes and goes on",
            ) from None
        offset += used
        rest = data[used:]
        if text:
            yield text
        block = _read(file, name) if block else b""


def _read(file: BinaryIO, name: str) -> bytes:
    try:
        return file.read(BLOCK)
    except OSError as fault:
        raise NotTextError(
            name, f"unreadable ({plain_reason(fault)})", "check the file and its disk"
        ) from fault


def _check_format(head: bytes, name: str) -> None:
    for magic, kind in FORMATS.items():
        if head.startswith(magic):
            raise NotTextError(name, f"{kind}, not text", "convert or unpack it to plain text first")
    sample = head[:4096]
    even, odd = sample[::2], sample[1::2]
    # Latin letters in UTF-16 have a NUL in every other byte, and in no other.
    one_sided = (not even.count(0) or not odd.count(0)) and sample.count(0) > len(sample) // 4
    wide_mark = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if wide_mark or (len(sample) > 3 and one_sided):
        raise NotTextError(
            name, "UTF-16, not UTF-8", f"`iconv -f UTF-16 -t UTF-8 '{name}' > utf8.txt` converts it"
        )
