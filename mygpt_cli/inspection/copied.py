"""Which passages of a text stand word for word in what a model was trained on, and where.

The rule: a stretch of N characters that stands within one training document is copied, and its place is the
first where it does. Stretches that follow one another in both make one passage.

The text is kept in memory, the training text only streamed: a fingerprint of every stretch of N characters of
it (Rabin and Karp, 1987) is looked up among those of the text, and every hit is compared in full.
"""

from dataclasses import dataclass

import numpy as np

from mygpt_cli.base.errors import MygptError
from mygpt_cli.base.progress import OnProgress
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.metrics import RUN_CONFIG
from mygpt_cli.checkpoints.runs import run_of
from mygpt_cli.config.corpus import corpus_of
from mygpt_cli.config.sources import from_file
from mygpt_cli.text.corpus import STDIN, Corpus, Part
from mygpt_cli.text.manifest import changes

LEAST = 40  # characters; shorter stretches are shared by texts that never met
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2 ** 64


@dataclass(frozen=True)
class Passage:
    """Characters [start, stop) of the text, which stand in `file` from `offset` (characters) and `line` on.

    Offsets count from 0, lines from 1.
    """

    start: int
    stop: int
    file: str
    offset: int
    line: int


@dataclass(frozen=True)
class Copied:
    """What of a text of so many `characters` was copied: its passages in order, which may overlap.

    `least` is the N of the rule; `copied` counts the characters in any passage.
    """

    characters: int
    least: int
    copied: int
    passages: tuple[Passage, ...]

    @property
    def share(self) -> float:
        """The share of the characters that is copied, 0 to 1."""
        return self.copied / self.characters if self.characters else 0.0


def training_text(checkpoint: Checkpoint) -> Corpus | str:
    """Open the text that a checkpoint was trained on, or say why it is not at hand."""
    run = run_of(checkpoint.folder)
    if checkpoint.state is None or run is None:
        return "no run says what it was trained on"
    try:
        settings = from_file(run / RUN_CONFIG)
        if STDIN in settings.get("files", ()):
            return "it came from standard input"
        corpus = corpus_of(settings)
    except MygptError as error:
        return error.message
    if corpus.fingerprint != checkpoint.state.get("text"):
        return "; ".join(["it is no longer the same", *changes(run, corpus)])
    return corpus


def find_copied(
    text: str, training: Part, *, least: int = LEAST, progress: OnProgress = lambda stage, fraction: None
) -> Copied:
    """Find all that a text shares with the training text, by the rule above with N = `least`, 1 or more."""
    search = _Search(text, least)
    carry, document, offset, line, done = "", 0, 0, 1, 0
    for chunk in training.chunks() if search.places else ():
        block = carry + chunk.text
        search.look(block, document, offset, line)
        done += len(chunk.text)
        progress("looking through the training text", done / training.characters)
        # A stretch may begin in this chunk and end in the next one, but not in the next document.
        carry = block[max(0, len(block) - least + 1) :]
        gone = block[: len(block) - len(carry)]
        offset, line = offset + len(gone), line + gone.count("\n")
        if chunk.ends_document:
            carry, document, offset, line = "", document + 1, 0, 1
    passages = search.passages([document.name for document in training.documents])
    return Copied(len(text), least, _covered(passages), passages)


class _Search:
    """The stretches of a text, and for each the first place where it was found."""

    def __init__(self, text: str, least: int) -> None:
        self.least = least
        self.codes = _codes(text)
        prints = _fingerprints(self.codes, least)
        self.places = len(prints)
        # Equal stretches are looked for once: `known` in order, `first` where each begins in the text.
        self.known, self.first, self.which = np.unique(prints, return_index=True, return_inverse=True)
        self.found = np.full((len(self.known), 3), -1, np.int64)  # document, offset, line

    def look(self, block: str, document: int, offset: int, line: int) -> None:
        """Look through a block of the training text, which begins there."""
        codes = _codes(block)
        prints = _fingerprints(codes, self.least)
        at = np.searchsorted(self.known, prints)
        at[at == len(self.known)] = 0
        hits = np.flatnonzero((self.known[at] == prints) & (self.found[at, 0] < 0))
        known, where = np.unique(at[hits], return_index=True)  # the first place of each
        starts = hits[where]
        same = np.ones(len(known), bool)
        for step in range(self.least):
            same &= self.codes[self.first[known] + step] == codes[starts + step]
        known, starts = known[same], starts[same]
        ends = np.flatnonzero(codes == ord("\n"))
        self.found[known] = np.stack(
            (
                np.full(len(known), document),
                starts + offset,
                np.searchsorted(ends, starts) + line,
            ),
            axis=1,
        )

    def passages(self, names: list[str]) -> tuple[Passage, ...]:
        """Join the stretches that follow one another, and leave out passages within those before them."""
        if not self.places:
            return ()
        found = self.found[self.which.reshape(-1)]
        there = found[:, 0] >= 0
        goes_on = (
            there[1:] & there[:-1] & (found[1:, 0] == found[:-1, 0]) & (found[1:, 1] == found[:-1, 1] + 1)
        )
        starts = np.flatnonzero(there & ~np.concatenate(([False], goes_on)))
        ends = np.flatnonzero(there & ~np.concatenate((goes_on, [False]))) + self.least
        kept, reached = [], 0
        for start, stop in zip(starts.tolist(), ends.tolist(), strict=True):
            if stop > reached:
                document, offset, line = found[start].tolist()
                kept.append(Passage(start, stop, names[document], offset, line))
                reached = stop
        return tuple(kept)


def _covered(passages: tuple[Passage, ...]) -> int:
    covered = reached = 0
    for passage in passages:
        covered += passage.stop - max(passage.start, reached)
        reached = passage.stop
    return covered


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _fingerprints(codes: np.ndarray, least: int) -> np.ndarray:
    """Return a number for each stretch of `least` codes, modulo 2 ** 64: a polynomial in BASE."""
    if len(codes) < least:
        return np.empty(0, np.uint64)
    values = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(31)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values * _powers(BASE, len(codes)))))
    windows = sums[least:] - sums[:-least]
    prints: np.ndarray = windows * _powers(pow(BASE, -1, 2**64), len(windows))
    return prints


def _powers(base: int, count: int) -> np.ndarray:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)
