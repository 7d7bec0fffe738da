"""The tokenizer of a model folder: which of its files count, and which kind of tokenizer they make."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.strict_json import read_bytes, read_json
from mygpt_cli.tokens.foreign_reader import read_foreign
from mygpt_cli.tokens.foreign_tokenizer import ForeignTokenizer
from mygpt_cli.tokens.json_parts import UnsupportedError, damaged
from mygpt_cli.tokens.template import Template, write_template
from mygpt_cli.tokens.tokenizer import BytePairTokenizer, CharTokenizer, ModelIds, Tokenizer
from mygpt_cli.tokens.tokenizer_json import (
    END_OF_TEXT,
    BytePairVocabulary,
    CharacterVocabulary,
    Vocabulary,
    added_token,
)
from mygpt_cli.tokens.transformers_rules import BYTE_LEVEL, as_transformers_reads
from mygpt_cli.tokens.vocabulary_reader import check_vocab, read_strictly

TOKENIZER, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
SPECIALS, ADDED = "special_tokens_map.json", "added_tokens.json"
VOCAB, MERGES, SENTENCEPIECE = "vocab.json", "merges.txt", "tokenizer.model"
# What goes along, as it is, with a model that is trained further.
CARRIED = (TOKENIZER, SETTINGS, SPECIALS, ADDED, VOCAB, MERGES, SENTENCEPIECE, "chat_template.jinja")


def load_tokenizer(
    folder: Path, *, kind: str = "bpe", ids: ModelIds | None = None, carry: bool = False
) -> Tokenizer:
    """Read the tokenizer of a checkpoint folder: tokenizer.json, or else vocab.json with merges.txt.

    The files do not say whether byte pairs were learned or are those of an encoding; `kind` does. `ids` are
    those of the model that it is for. With `carry` its files are kept, for whoever saves the model again.

    Raises CheckpointError for files that are missing, damaged, or of a kind that mygpt does not support.
    """
    vocabulary = read_vocabulary(folder)
    tokenizer: Tokenizer
    if isinstance(vocabulary, CharacterVocabulary):
        tokenizer = CharTokenizer(vocabulary, ids)
    elif isinstance(vocabulary, BytePairVocabulary):
        tokenizer = BytePairTokenizer(vocabulary, kind, ids)
    else:
        tokenizer = ForeignTokenizer(vocabulary, kind, ids)
    if carry:
        tokenizer.carried = {name: read_bytes(folder / name) for name in CARRIED if (folder / name).is_file()}
    return tokenizer


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read the vocabulary of a checkpoint folder as AutoTokenizer of transformers does.

    Raises CheckpointError for files that are missing, damaged, or of a kind that would encode differently.
    """
    settings = _read_settings(folder)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    path = folder / TOKENIZER
    if path.is_file():
        root = read_json(path)
    elif (folder / VOCAB).is_file():
        path, root = folder / VOCAB, _read_vocab_and_merges(folder, settings)
    elif (folder / SENTENCEPIECE).is_file():
        raise CheckpointError(
            f"{folder} holds no {TOKENIZER}, only {SENTENCEPIECE}, which mygpt does not read",
            f"in transformers, `AutoTokenizer.from_pretrained(F).save_pretrained(F)` makes a {TOKENIZER}",
        )
    else:
        raise CheckpointError(
            f"{folder} holds no {TOKENIZER}",
            f"copy it, or {VOCAB} and {MERGES}, from where the model came from",
        )
    root = as_transformers_reads(root, settings, config)
    try:
        return read_strictly(path, root)
    except UnsupportedError:
        vocabulary = read_foreign(path, root)
    return vocabulary


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return what tokenizer_config.json and special_tokens_map.json say."""
    settings: dict[str, Any] = {}
    for path in (folder / SPECIALS, folder / SETTINGS):
        if path.is_file():
            settings |= read_json(path)
    return settings


def _roles(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the tokens that have a part to play, such as to end a text, by what they do."""
    more = settings.get("additional_special_tokens")
    roles = {key: value for key, value in settings.items() if key.endswith("_token")}
    roles |= {str(place): token for place, token in enumerate(more if isinstance(more, list) else [])}
    texts = {key: one.get("content") if isinstance(one, dict) else one for key, one in roles.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _read_vocab_and_merges(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json of a vocab.json, a merges.txt, and what else there is."""
    path = folder / VOCAB
    vocab = check_vocab(path, read_json(path))
    more, by_role = folder / ADDED, _roles(settings)
    roles = {END_OF_TEXT, *by_role.values()}
    entries = [added_token(text, vocab[text]) for text in sorted(roles & vocab.keys())]
    added = check_vocab(more, read_json(more)) if more.is_file() else {}
    for text, token in sorted(added.items(), key=lambda item: item[1]):
        if text not in roles or vocab.get(text) != token:
            entries.append(added_token(text, token, late=None if text in roles else True))
    ids = vocab | {entry["content"]: entry["id"] for entry in entries}

    def named(role: str) -> tuple[tuple[str, int], ...]:
        text = by_role.get(f"{role}_token", "")
        return ((text, ids[text]),) if settings.get(f"add_{role}_token") and text in ids else ()

    return {
        "added_tokens": entries,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": write_template(Template(named("bos"), named("eos"))),
        "decoder": BYTE_LEVEL,
        # The ids that this kind of folder gives to added tokens count, gaps or not.
        "model": {"type": "BPE", "vocab": ids | vocab, "merges": _read_merges(folder / MERGES)},
    }


def _read_merges(path: Path) -> list[str]:
    try:
        lines = read_bytes(path).decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as fault:
        raise damaged(path, "is not UTF-8") from fault
    if lines[0].startswith("#version"):
        del lines[0]
    return [line for line in lines if line]
