"""What Hugging Face's folders have besides weights and a tokenizer: which tokens end a text, and a cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.strict_json import read_bytes, read_json
from mygpt_cli.tokens.tokenizer import ModelIds

CONFIG = "config.json"
GENERATION = "generation_config.json"
SMALL = 2**20  # bytes: the limit of every JSON file but the tokenizer's and an index


def read_ids(folder: Path, config: Mapping[str, Any], vocab_size: int) -> ModelIds:
    """Read which tokens begin and end a text; those that the model does not have never do.

    As in transformers, generation_config.json says so, and config.json only where there is no other.
    Raises CheckpointError for what is not a token's id.
    """
    path = folder / GENERATION
    raw = read_json(path, SMALL) if path.exists() else config
    found = {}
    for name in ("bos_token_id", "eos_token_id"):
        given = raw.get(name)
        tokens = given if isinstance(given, list) else [] if given is None else [given]
        if not all(type(token) is int for token in tokens):
            raise CheckpointError(
                f"{name} must be the id of a token or a list of ids, not {given!r:.100}",
                f"correct it in {GENERATION}, or without one in {CONFIG}",
            )
        found[name] = [token for token in dict.fromkeys(tokens) if 0 <= token < vocab_size]
    return ModelIds(vocab_size, next(iter(found["bos_token_id"]), None), tuple(found["eos_token_id"]))


def newest_snapshot(repository: Path) -> Path:
    """Return the snapshot of a repository in Hugging Face's cache that `refs/main` names, or the newest.

    Raises CheckpointError when there is none.
    """
    main = repository / "refs" / "main"
    name = read_bytes(main, 100).decode("utf-8", "replace").strip() if main.is_file() else ""
    try:
        found = [entry for entry in (repository / "snapshots").iterdir() if (entry / CONFIG).is_file()]
        newest = max(found, key=lambda entry: (entry.name == name, entry.stat().st_mtime), default=None)
    except OSError as error:
        raise CheckpointError(f"cannot read {repository}: {error.strerror}", "try again") from None
    if newest is None or newest.is_symlink():
        raise CheckpointError(
            f"no snapshot in {repository} holds a model",
            "download it again, with its config.json and weights",
        )
    return newest
