"""What transformers makes of a tokenizer.json: some of its classes take only the vocabulary and the merges.

AutoTokenizer of transformers 5 picks a class by the names in tokenizer_config.json and config.json. Three of
the classes build everything else anew, whatever the file says: a GPT2Tokenizer does not know of digits apart,
and a LlamaTokenizer puts no second space before a text that begins with one. Results are to be those of
transformers, so the same is done here. (models/auto/tokenization_auto.py, tokenization_utils_tokenizers.py
and the classes' own files.)
"""

from collections.abc import Mapping
from typing import Any

from mygpt_cli.tokens.json_parts import type_of
from mygpt_cli.tokens.patterns import QWEN2_PATTERN

PLAIN = "TokenizersBackend"  # the class that takes a file as it is
REGISTERED = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "mistral": PLAIN}
INSISTS = ("qwen2",)  # models whose registered class counts, whichever is named
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def as_transformers_reads(
    root: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the contents of a tokenizer.json as AutoTokenizer uses them.

    `settings` are those of tokenizer_config.json, `config` is the model's config.json. A file of another kind
    than its class, such as one of characters, is left as it is.
    """
    rebuilt = dict(root)
    model = root.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        return rebuilt
    parts = {"type": "BPE", "vocab": model.get("vocab"), "merges": model.get("merges")}
    byte_level = _is_byte_level(root)
    match _class_of(settings, config, byte_level=byte_level):
        case "GPT2Tokenizer" if byte_level:
            return rebuilt | {"model": parts, "normalizer": None, **_byte_level(settings)}
        case "Qwen2Tokenizer" if byte_level:
            split = {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated"}
            return rebuilt | {
                "model": parts,
                "normalizer": {"type": "NFC"},
                **_byte_level(settings, split, use_regex=False),
            }
        case "LlamaTokenizer" if model.get("byte_fallback"):
            model = parts | {"fuse_unk": True, "byte_fallback": True}
            return rebuilt | {"model": model, "normalizer": None, **_metaspace(settings)}
    return rebuilt


def _class_of(settings: Mapping[str, Any], config: Mapping[str, Any], *, byte_level: bool) -> str:
    """Return the name of the class that AutoTokenizer takes, without a "Fast" at its end."""
    kind = config.get("model_type")
    registered = REGISTERED.get(kind) if isinstance(kind, str) else None
    declared = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if not isinstance(declared, str):
        return registered or PLAIN
    if registered and (registered == PLAIN or kind in INSISTS):
        return registered
    declared = declared.removesuffix("Fast")
    return PLAIN if declared == "LlamaTokenizer" and byte_level else declared


def _is_byte_level(root: Mapping[str, Any]) -> bool:
    parts = [root.get("decoder"), root.get("pre_tokenizer")]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif type_of(part) == "ByteLevel":
            return True
        elif isinstance(part, dict):
            parts += [part.get("pretokenizers"), part.get("decoders")]
    return False


def _byte_level(
    settings: Mapping[str, Any], *before: dict[str, Any], use_regex: bool = True
) -> dict[str, Any]:
    space = bool(settings.get("add_prefix_space"))
    step = BYTE_LEVEL | {"add_prefix_space": space, "use_regex": use_regex}
    pre_tokenizer = {"type": "Sequence", "pretokenizers": [*before, step]}
    return {"pre_tokenizer": pre_tokenizer, "decoder": BYTE_LEVEL}


def _metaspace(settings: Mapping[str, Any]) -> dict[str, Any]:
    space = settings.get("add_prefix_space")
    space = True if space is None else bool(space)
    scheme = ("always" if settings.get("legacy") else "first") if space else "never"
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space else []
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *strip,
    ]
    return {
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False},
        "decoder": {"type": "Sequence", "decoders": decoders},
    }
