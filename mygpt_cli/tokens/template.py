"""The tokens that a tokenizer puts before and after every text, such as `<s>`: a template, to and from files.

https://huggingface.co/docs/tokenizers/api/post-processors
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mygpt_cli.tokens.json_parts import damaged, get, steps_of, type_of, unsupported

MOST = 16  # tokens around a text


@dataclass(frozen=True)
class Template:
    """Tokens as names with ids; the same one may come several times."""

    before: tuple[tuple[str, int], ...] = ()
    after: tuple[tuple[str, int], ...] = ()


def read_template(path: Path, processor: Any) -> Template:
    """Read what a post-processor puts around a single text; ByteLevel only moves offsets.

    Raises CheckpointError for one that is damaged or of another type.
    """
    found = Template()
    for step in steps_of(path, processor, "processors"):
        kind = type_of(step)
        if kind == "TemplateProcessing" and found == Template():
            found = _read_processing(path, step)
        elif kind != "ByteLevel":
            raise unsupported(path, f"a post-processor of type {kind!r:.60}")
    return found


def _read_processing(path: Path, step: dict[str, Any]) -> Template:
    tokens = get(path, step, "special_tokens", dict, {})
    before: list[tuple[str, int]] = []
    after: list[tuple[str, int]] = []
    texts = 0
    for piece in get(path, step, "single", list):
        match piece:
            case {"Sequence": {"id": "A"}}:
                texts += 1
            case {"SpecialToken": {"id": str(name)}}:
                (after if texts else before).extend(_read_token(path, name, tokens))
            case _:
                raise damaged(path, "has a template of something else than a text and tokens")
    if texts != 1 or len(before) + len(after) > MOST:
        raise damaged(path, f"has a template without one text, or with more than {MOST} tokens")
    return Template(tuple(before), tuple(after))


def _read_token(path: Path, name: str, tokens: dict[str, Any]) -> list[tuple[str, int]]:
    match tokens.get(name):
        case {"ids": [*ids], "tokens": [*names]} if len(ids) == len(names) <= MOST:
            if all(type(one) is int and one >= 0 for one in ids) and all(isinstance(n, str) for n in names):
                return list(zip(names, ids, strict=True))
    raise damaged(path, f"has a template with {name!r:.60}, whose tokens it does not give")


def write_template(template: Template) -> dict[str, Any] | None:
    """Return the post-processor that puts these tokens around a text; None where there are none."""
    if template == Template():
        return None
    names = dict((*template.before, *template.after))
    single = [
        *({"SpecialToken": {"id": name, "type_id": 0}} for name, _ in template.before),
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": name, "type_id": 0}} for name, _ in template.after),
    ]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [token], "tokens": [name]} for name, token in names.items()
        },
    }
