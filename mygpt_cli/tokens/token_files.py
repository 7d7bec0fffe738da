"""The tokens of a text in a folder: written in blocks, on all processors, and gone on with if interrupted.

`meta.json` says after every block how many characters of each part are done, how many tokens they gave, and
the checksum of these; a part is finished when it has all its characters.
"""

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, islice
from pathlib import Path

import numpy as np

from mygpt_cli.base.errors import CheckpointError, TextError
from mygpt_cli.base.progress import OnProgress
from mygpt_cli.base.strict_json import read_json
from mygpt_cli.text.corpus import Chunk, Corpus, Part
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.patterns import SPLIT_PATTERN
from mygpt_cli.tokens.tokenizer import PIECE, Tokenizer, UnknownCharacterError, safe_cut
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

LARGE = 1 << 28  # bytes of tokens; fewer may stay in memory
BLOCK = 64  # pieces of text between two notes of how far it is: some 4 MB
# Characters that byte pairs are learned from. Thousands for each token of the largest vocabulary, and more
# would take longer to count than to encode.
SAMPLE = 1 << 26
CALLED = {"train": "training", "val": "validation"}
META = "meta.json"
TOKENIZER = "tokenizer.json"
FILES = {"train.bin", "val.bin", META, f"{META}.new", TOKENIZER}


@dataclass(frozen=True)
class Done:
    """How many characters of a part are tokenized, the tokens they gave, and the checksum of these."""

    characters: int = 0
    tokens: int = 0
    crc32: int = 0


def texts(chunks: Iterable[Chunk], size: int = PIECE, tokenizer: Tokenizer | None = None) -> Iterator[Chunk]:
    """Cut a stream of chunks anew, as `pieces_of` cuts each document, wherever its chunks end.

    Their tokens are those of the whole, for the `tokenizer` that is given or one that mygpt makes.
    """
    cut = tokenizer.cut if tokenizer else safe_cut
    seen = size + tokenizer.reach + tokenizer.added.longest if tokenizer else size  # by a cut, and no more
    rest = ""
    for chunk in chunks:
        text = rest + chunk.text
        start = 0
        while len(text) - start > seen:
            stop = cut(text, start, start + size)
            yield Chunk(text[start:stop], False)
            start = stop
        rest = text[start:]
        if chunk.ends_document:
            yield Chunk(rest, True)
            rest = ""
    if rest:
        yield Chunk(rest, False)


def learn(
    corpus: Corpus, spec: str, vocab_size: int | None, progress: OnProgress, pattern: str = SPLIT_PATTERN
) -> Tokenizer:
    """Make the tokenizer `spec` for a corpus; see `train_tokenizer`.

    Every character must have a token, so characters are taken from all of the text; merges are learned from
    what is trained on, and of a large text from pieces spread evenly over it.
    """
    parts = [corpus.train, corpus.val] if spec == "char" else [corpus.train]
    return train_tokenizer(
        spec,
        (text for part in parts for text in _sample(part, progress, all_of_it=spec == "char")),
        vocab_size=vocab_size,
        end_of_text=corpus.documents > 1,
        pattern=pattern,
    )


def _sample(part: Part, progress: OnProgress, *, all_of_it: bool) -> Iterator[str]:
    wanted = part.characters if all_of_it else min(SAMPLE, part.characters)
    seen = taken = 0
    for text, _ in texts(part.chunks()):
        if taken * part.characters <= seen * wanted:
            taken += len(text)
            yield text
        seen += len(text)
        progress("learning the vocabulary", seen / part.characters)


def write_tokens(folder: Path, corpus: Corpus, tokenizer: Tokenizer, progress: OnProgress) -> None:
    """Write the tokens of both parts, the tokenizer and `meta.json`, or what is missing of them.

    What is there is checked and kept. Raises TextError for a text that is too short or cannot be encoded.
    """
    text = tokenizer.to_json().encode()
    (folder / TOKENIZER).write_bytes(text)
    meta = read_meta(folder)
    if meta.get("tokenizer") != _digest(text) or meta.get("end") != tokenizer.end_of_text:
        meta = {"tokenizer": _digest(text), "end": tokenizer.end_of_text}
        _write_meta(folder, meta)
    end = tokenizer.end_of_text if corpus.documents > 1 else None
    after = tokenizer.suffix or (() if end is None else (end,))
    for name, part in (("train", corpus.train), ("val", corpus.val)):

        def note(done: Done, name: str = name, part: Part = part) -> None:
            meta[name] = asdict(done)
            _write_meta(folder, meta)
            progress(f"tokenizing the {CALLED[name]} text", done.characters / part.characters)

        done = _write_part(folder / f"{name}.bin", part, tokenizer, after, _done(meta, name), note)
        if done.tokens < 2:
            raise TextError(
                f"the {CALLED[name]} text is too short: {done.tokens} token, and two are needed to"
                " predict one",
                "give more text, or change --val-fraction",
            )


def _write_part(
    path: Path,
    part: Part,
    tokenizer: Tokenizer,
    after: tuple[int, ...],
    done: Done,
    note: Callable[[Done], None],
) -> Done:
    """Append the tokens that are missing; `note` is called at the start and after each block.

    The tokenizer's prefix goes before each document, and before a part that begins within one, where it is
    the first that the model reads; what comes `after` goes after each document.
    """
    starts = {part.start, *accumulate(document.characters for document in part.documents)}
    dtype = token_type(tokenizer)
    if open_tokens(path, dtype, done) is None:
        done = Done()
        # A new file, since another process may still have the old one mapped.
        path.unlink(missing_ok=True)

    def encode(chunk: Chunk, place: int) -> np.ndarray:
        try:
            ids = tokenizer.encode_array(chunk.text, begins=place in starts)
        except UnknownCharacterError as fault:
            raise UnknownCharacterError(fault.character, fault.place + place, fault.known) from None
        around = tokenizer.prefix * (place in starts), after * chunk.ends_document
        before, behind = (np.array(tokens, np.uint32) for tokens in around)
        return np.concatenate((before, ids, behind)).astype(dtype)

    with path.open("ab") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        file.truncate(done.tokens * dtype.itemsize)
        note(done)
        # The pieces that follow a piece do not depend on what came before it.
        rest = replace(part, start=part.start + done.characters)
        chunks = texts(rest.chunks(), tokenizer=tokenizer)
        while block := list(islice(chunks, BLOCK)):
            places = list(accumulate((len(c.text) for c in block), initial=part.start + done.characters))
            tokens, crc32 = done.tokens, done.crc32
            for ids in pool.map(encode, block, places[:-1]):
                file.write(ids.data)
                tokens, crc32 = tokens + len(ids), zlib.crc32(ids.data, crc32)
            file.flush()
            done = Done(places[-1] - part.start, tokens, crc32)
            note(done)
    return done


def read_tokens(folder: Path, corpus: Corpus, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray] | None:
    """Map the tokens of both parts from disk; None if they are missing, unfinished or damaged."""
    meta = read_meta(folder)
    parts = []
    for name, part in (("train", corpus.train), ("val", corpus.val)):
        done, path = _done(meta, name), folder / f"{name}.bin"
        tokens = open_tokens(path, token_type(tokenizer), done)
        if tokens is None or done.characters != part.characters or tokens.nbytes != path.stat().st_size:
            return None
        parts.append(tokens)
    return parts[0], parts[1]


def read_tokenizer(folder: Path, kind: str, existing: Tokenizer | None = None) -> Tokenizer | None:
    """Return the tokenizer that the tokens in `folder` are of.

    None if it is missing, damaged, or another one than `existing`.
    """
    try:
        text = existing.to_json().encode() if existing else (folder / TOKENIZER).read_bytes()
        meta = read_meta(folder)
        if meta.get("tokenizer") != _digest(text):
            return None
        if existing and meta.get("end") != existing.end_of_text:  # it parts documents
            return None
        return existing or load_tokenizer(folder, kind=kind)
    except (OSError, CheckpointError):
        return None


def remove_tokens(folder: Path) -> None:
    """Remove a folder of tokens as far as the system allows; one that holds anything else stays as it is."""
    with suppress(OSError):
        files = list(folder.iterdir())
        if {file.name for file in files} <= FILES:
            for file in files:
                file.unlink()
            folder.rmdir()


def open_tokens(path: Path, dtype: np.dtype, done: Done) -> np.ndarray | None:
    """Map the tokens that are done, read-only; None if they are not there as they were written."""
    if done.tokens < 1:
        return None
    left, crc32 = done.tokens * dtype.itemsize, 0
    try:
        # Read, since what is looked at through a mapping counts as memory of this process.
        with path.open("rb") as file:
            while block := file.read(min(left, 1 << 20)):
                left, crc32 = left - len(block), zlib.crc32(block, crc32)
        if left or crc32 != done.crc32:
            return None
        # A plain array over the mapping: memmap's own class makes every batch slower.
        return np.asarray(np.memmap(path, dtype, mode="r", shape=(done.tokens,)))
    except OSError:
        return None


def release(tokens: np.ndarray) -> None:
    """Let go of what was looked at of many mapped tokens, which counts as memory of this process."""
    mapping = getattr(tokens.base, "base", None)
    # Windows has no such advice to give.
    if tokens.nbytes > LARGE and isinstance(mapping, mmap.mmap) and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)


def read_meta(folder: Path) -> dict[str, object]:
    """Return what `meta.json` says, which is nothing if it is missing or damaged."""
    try:
        meta = read_json(folder / META)
    except CheckpointError:
        return {}
    return meta if meta.pop("crc32", None) == _checksum(meta) else {}


def token_type(tokenizer: Tokenizer) -> np.dtype:
    """Return the smallest type that holds every token id."""
    return np.min_scalar_type(tokenizer.vocab_size - 1)


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _done(meta: dict[str, object], name: str) -> Done:
    match meta.get(name):
        case {"characters": int(characters), "tokens": int(tokens), "crc32": int(crc32)}:
            return Done(characters, tokens, crc32)
    return Done()


def _write_meta(folder: Path, meta: dict[str, object]) -> None:
    # In one piece: at any moment a whole note is there, and its checksum tells whether the tokens are too.
    new = folder / f"{META}.new"
    new.write_text(json.dumps(meta | {"crc32": _checksum(meta)}, indent=2), encoding="utf-8")
    new.replace(folder / META)


def _checksum(meta: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(meta).encode())
