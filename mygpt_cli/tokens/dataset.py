"""A tokenized text on disk, memory-mapped, and the batches drawn from it."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mygpt_cli.base.errors import ResourceError, TextError
from mygpt_cli.base.locking import waited_lock
from mygpt_cli.base.progress import OnProgress
from mygpt_cli.text.corpus import Corpus
from mygpt_cli.tokens.bpe_dropout import BPEDropout
from mygpt_cli.tokens.patterns import SPLIT_PATTERN
from mygpt_cli.tokens.token_files import (
    learn,
    read_tokenizer,
    read_tokens,
    release,
    remove_tokens,
    write_tokens,
)
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import check_tokenizer, choose_vocab_size

# Raised whenever the same text and the same settings would give other files than before.
FORMAT = 3
UNUSED = 30 * 24 * 3600.0  # seconds, after which tokens go when others are made


@dataclass(frozen=True)
class Dataset:
    """The tokens of a corpus: `train` and `val` are read-only arrays of ids, mapped from disk.

    Bytes are those of the UTF-8 text of each part. `fingerprint` is that of the corpus.
    """

    train: np.ndarray
    val: np.ndarray
    tokenizer: Tokenizer
    train_bytes: int
    val_bytes: int
    train_characters: int
    val_characters: int
    fingerprint: str


def cache_folder() -> Path:
    """Return where tokens are kept: MYGPT_CACHE_DIR, or mygpt's place among the user's caches."""
    if chosen := os.environ.get("MYGPT_CACHE_DIR"):
        return Path(chosen)
    try:
        if sys.platform == "win32":
            return (
                Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mygpt" / "cache"
            )
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "mygpt"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mygpt"
    except RuntimeError as fault:
        raise ResourceError("there is no home folder to keep tokens in", "set MYGPT_CACHE_DIR") from fault


def prepare(
    corpus: Corpus,
    *,
    tokenizer: str,
    vocab_size: int | None = None,
    cache: Path | None = None,
    progress: OnProgress | None = None,
    existing: Tokenizer | None = None,
    pattern: str = SPLIT_PATTERN,
) -> Dataset:
    """Tokenize a corpus, or find its tokens where an earlier call left them under `cache`.

    A call that was interrupted is gone on with from its last block, and of two at once on the same text the
    second waits for the tokens of the first. Tokens that no call has asked for in 30 days are removed before
    others are made.

    `tokenizer` and `vocab_size` say what to learn or load, and `pattern` how to split the text that byte
    pairs are learned from; `existing` is used in their place.
    `progress` is called with what is being done and the fraction of it that is done.

    Raises UsageError for a wrong tokenizer, TextError for a text that `existing` cannot encode or that is
    too short, ResourceError when the cache cannot be written.
    """
    if existing is None:
        check_tokenizer(tokenizer, vocab_size)
    sizes = [vocab_size]
    if tokenizer == "bpe" and vocab_size is None:
        sizes = [vocab_size := choose_vocab_size(corpus.train.bytes)]
    elif tokenizer == "bpe" and existing is not None:  # which may have had fewer tokens than were wanted
        sizes.append(choose_vocab_size(corpus.train.bytes))
    keys: list[list[str | int | None]] = [[tokenizer, size, pattern] for size in sizes]
    if existing is not None:
        keys.append([existing.to_json()])
    kind = "bpe" if tokenizer == "char" else tokenizer
    root = cache or cache_folder()
    folders = [root / _name(corpus, key) for key in keys]
    for folder in folders:
        if found := _load(folder, corpus, kind, existing):
            return found
    try:
        return _build(
            folders[-1],
            corpus,
            progress or _no_progress,
            existing,
            lambda progress: learn(corpus, tokenizer, vocab_size, progress, pattern),
            kind,
        )
    except OSError as fault:
        raise ResourceError(
            f"tokens cannot be kept in {root}: {(fault.strerror or str(fault)).lower()}",
            "set MYGPT_CACHE_DIR to a folder with room",
        ) from fault


def _name(corpus: Corpus, key: list[str | int | None]) -> str:
    return hashlib.sha256(json.dumps([FORMAT, corpus.fingerprint, *key]).encode()).hexdigest()[:32]


def _build(
    folder: Path,
    corpus: Corpus,
    progress: OnProgress,
    existing: Tokenizer | None,
    made: Callable[[OnProgress], Tokenizer],
    kind: str,
) -> Dataset:
    """Tokenize into `folder`, going on from what an interruption left there, one process at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    wait = partial(progress, "waiting for another process that tokenizes this text", 0.0)
    with waited_lock(folder.with_suffix(".lock"), wait):
        if found := _load(folder, corpus, kind, existing):
            return found
        _remove_unused(folder)
        folder.mkdir(exist_ok=True)
        try:
            tokenizer = existing or read_tokenizer(folder, kind) or made(progress)
            write_tokens(folder, corpus, tokenizer, progress)
        except Exception:
            # An interruption leaves what is done; a fault, such as a full disk, leaves nothing.
            remove_tokens(folder)
            raise
        dataset = _load(folder, corpus, kind, tokenizer)
    if dataset is None:
        raise ResourceError(f"the tokens in {folder} change while they are read", "set MYGPT_CACHE_DIR")
    return dataset


def _remove_unused(made: Path) -> None:
    """Remove tokens beside those to be `made` that nothing has used for long, unless a process is at them."""

    def leave() -> None:
        raise BlockingIOError

    for folder in made.parent.iterdir():
        if folder != made and re.fullmatch("[0-9a-f]{32}", folder.name) and not folder.is_symlink():
            with suppress(OSError), waited_lock(folder.with_suffix(".lock"), leave):
                if time.time() - folder.stat().st_mtime > UNUSED:
                    remove_tokens(folder)


def _load(folder: Path, corpus: Corpus, kind: str, existing: Tokenizer | None) -> Dataset | None:
    """Open the tokens in `folder`; None if they are missing, unfinished, damaged or not of `existing`."""
    tokenizer = read_tokenizer(folder, kind, existing)
    tokens = read_tokens(folder, corpus, tokenizer) if tokenizer else None
    if tokenizer is None or tokens is None:
        return None
    with suppress(OSError):  # a cache that can only be read
        os.utime(folder)
    return Dataset(
        train=tokens[0],
        val=tokens[1],
        tokenizer=tokenizer,
        train_bytes=corpus.train.bytes,
        val_bytes=corpus.val.bytes,
        train_characters=corpus.train.characters,
        val_characters=corpus.val.characters,
        fingerprint=corpus.fingerprint,
    )


def _no_progress(stage: str, fraction: float) -> None:
    """Say nothing."""


class Batches:
    """Batches of windows of `context` tokens; which tokens a step gets depends on `seed` and step alone.

    Every epoch lays windows end to end from a random offset and takes them in a random order, so that no
    token is seen twice in it; what no window of this epoch covers, at both ends together, is shorter than
    two windows. Step s takes windows s * batch_size and on of the endless row of epochs.

    Raises TextError when the text is too short for a single window.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        seed: int,
        batch_size: int,
        context: int,
        bpe_dropout: BPEDropout | None = None,
    ) -> None:
        room = len(tokens) - 1
        if room < context:
            raise TextError(
                f"a window of {context} tokens does not fit into a text of {len(tokens)}",
                f"use --context {max(1, room)} or less, or give more text",
            )
        self.tokens = tokens
        self.seed = seed
        self.batch_size = batch_size
        self.context = context
        self.bpe_dropout = bpe_dropout
        # One window less than fits, so that every epoch has as many, wherever it starts.
        self.windows_per_epoch = max(1, room // context - 1)
        self._slack = room - self.windows_per_epoch * context
        self._epoch = -1
        self._offset = 0
        self._order = np.empty(0, np.uint8)

    def batch(
        self, step: int, split: float = 0.0, rows: slice | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets of one step, int64 of shape (batch_size, context), or these rows of them.

        `split` is the probability with which the bpe_dropout, if there is one, takes tokens apart.
        """
        first = step * self.batch_size
        starts = np.empty(self.batch_size, np.int64)
        done = 0
        while done < self.batch_size:
            epoch, window = divmod(first + done, self.windows_per_epoch)
            self._shuffle(epoch)
            some = self._order[window : window + self.batch_size - done].astype(np.int64)
            starts[done : done + len(some)] = some * self.context + self._offset
            done += len(some)
        starts = starts if rows is None else starts[rows]
        windows = self.tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)  # (B, T + 1)
        release(self.tokens)
        if split and self.bpe_dropout:
            random = np.random.Generator(np.random.PCG64([self.seed, 1, step]))
            some_rows = () if rows is None else ((rows, self.batch_size),)
            windows = self.bpe_dropout.split(windows, split, random, *some_rows)
        return windows[:, :-1], windows[:, 1:]

    def _shuffle(self, epoch: int) -> None:
        """Draw the offset and the order of an epoch's windows, unless they are at hand."""
        if epoch == self._epoch:
            return
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        self._offset = int(random.integers(self._slack, endpoint=True))
        # The smallest type, since ten gigabytes of text make some hundred million windows.
        self._order = np.arange(self.windows_per_epoch, dtype=np.min_scalar_type(self.windows_per_epoch))
        random.shuffle(self._order)
        self._epoch = epoch


def batch(
    tokens: np.ndarray, *, seed: int, step: int, batch_size: int, context: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of one step, int64 of shape (batch_size, context); see `Batches`."""
    return Batches(tokens, seed=seed, batch_size=batch_size, context=context).batch(step)


def val_windows(tokens: np.ndarray, context: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield inputs and targets, int64 of shape (up to batch_size, up to context), over all of `tokens`.

    Windows do not overlap and every token but the first, which nothing precedes, is predicted once: n
    tokens give n - 1 predictions. What is left after the last whole window comes last, alone and shorter.
    """
    whole = (len(tokens) - 1) // context
    for first in range(0, whole, batch_size):
        count = min(batch_size, whole - first)
        start, stop = first * context, (first + count) * context
        inputs = tokens[start:stop].astype(np.int64).reshape(count, context)  # (B, T)
        targets = tokens[start + 1 : stop + 1].astype(np.int64).reshape(count, context)  # (B, T)
        release(tokens)
        yield inputs, targets
    rest = tokens[whole * context :].astype(np.int64)[None, :]  # (1, up to T + 1)
    if rest.size > 1:
        yield rest[:, :-1], rest[:, 1:]
