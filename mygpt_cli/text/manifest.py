"""Which files a text was made of: kept beside a run, so that what has changed since can be named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mygpt_cli.base.errors import CheckpointError, ResourceError
from mygpt_cli.base.files import write_whole
from mygpt_cli.base.strict_json import read_json
from mygpt_cli.text.corpus import Corpus

CONTENTS = "text.json"
MOST_FILES = 10_000  # that are kept account of
MOST_NAMED = 10


@dataclass(frozen=True)
class _File:
    name: str
    characters: int
    sha256: str


def record(folder: Path, corpus: Corpus) -> None:
    """Write `text.json`: name, length and digest of each file; ResourceError when it cannot be written."""
    files = list(_files(corpus))
    if len(files) > MOST_FILES:
        return
    try:
        text = json.dumps({"files": [vars(file) for file in files]}, indent=1)
        write_whole(folder / CONTENTS, [f"{text}\n"])
    except OSError as error:
        raise ResourceError(f"cannot write to {folder}: {error.strerror}", "free some space") from None


def changes(folder: Path, corpus: Corpus) -> list[str]:
    """Say how a text differs from the one recorded, as far as that is known."""
    try:
        before = [_File(**file) for file in read_json(folder / CONTENTS)["files"]]
        old, known = {file.name: file for file in before}, {file.sha256 for file in before}
    except (CheckpointError, KeyError, TypeError):
        return []
    now = list(_files(corpus))
    told = []
    for file in now:
        if file.name in old:
            told += _change(old[file.name], file)
        elif file.sha256 not in known:
            told.append(f"'{file.name}' is new")
    there = {file.name for file in now} | {file.sha256 for file in now}
    told += [
        f"'{file.name}' is no longer part of it" for file in before if not there & {file.name, file.sha256}
    ]
    if not told and [f.sha256 for f in before] != [f.sha256 for f in now]:
        told.append("its files are in another order, or repeated another number of times")
    if not told:
        told.append("it is split differently into training and validation")
    more = len(told) - MOST_NAMED
    return told if more <= 0 else [*told[:MOST_NAMED], f"and {more:,} more"]


def _files(corpus: Corpus) -> Iterator[_File]:
    documents = corpus.train.documents
    if corpus.val.documents != documents:
        documents += corpus.val.documents
    for document in documents:
        yield _File(document.name, document.characters, document.digest)


def _change(before: _File, now: _File) -> list[str]:
    if before.sha256 == now.sha256:
        return []
    longer = now.characters - before.characters
    if not longer:
        return [f"'{now.name}' has a different text of the same length"]
    unit = "character" if abs(longer) == 1 else "characters"
    return [f"'{now.name}' has {abs(longer):,} {unit} {'more' if longer > 0 else 'fewer'}"]
