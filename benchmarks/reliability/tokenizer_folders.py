"""Tokenizers of the kinds that folders from elsewhere have, with all the files that may lie beside them."""

import json
from pathlib import Path

from mygpt_cli.tokens.loading import ADDED, CONFIG, SPECIALS, TOKENIZER, VOCAB, load_tokenizer
from mygpt_cli.tokens.tokenizer import Tokenizer
from tests.helpers.foreign_tokenizers import KINDS

TOKENIZERS = tuple(KINDS)
CHAT = "{% for message in messages %}<|{{ message.role }}|> {{ message.content }}\n{% endfor %}"


def make_tokenizer(folder: Path, kind: str) -> tuple[str, Tokenizer]:
    """Write the files of a tokenizer into a new folder; return the architecture that it is for, and it."""
    KINDS[kind](folder)
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    (folder / SPECIALS).write_text('{"pad_token": {"content": "<unk>"}}', encoding="utf-8")
    if not (folder / TOKENIZER).exists():
        more = len(json.loads((folder / VOCAB).read_text(encoding="utf-8")))
        (folder / ADDED).write_text(json.dumps({"<think>": more, "zebra": more + 1}), encoding="utf-8")
    arch = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_type"]
    return arch, load_tokenizer(folder, carry=True)
