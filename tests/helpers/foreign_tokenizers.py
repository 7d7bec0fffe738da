"""Tokenizer folders of the kinds that people have, made from random text, and strings to try them on."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    SentencePieceBPETokenizer,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from mygpt_cli.tokens.patterns import LLAMA3_PATTERN, QWEN2_PATTERN

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "it's", "flat", "don't", "WE'VE", "été", "naïve"]
WORDS += ["12", "2024", "345", "x+y=z;", "foo()", "bar\n"]
HARD = (
    "",
    " ",
    "▁ ▁▁ a▁b",
    "👩‍👩‍👧‍👦 🇳🇱 👍🏽 e\u0301\u0323 \u0301alone",
    "a  b   c    d" + " " * 300 + "e",
    " leading",
    "  two leading",
    "line\r\nline\r\n\r\n  indented\n\tTab\t\ttabs \n \n x",
    "\x00nul\x00\x00 \x1b[31m",
    "\u0301\u0301\u200d\ufeff\u00a0\u3000\u2028\x85\x1c",
    "I'LL it'\u017f 'RE 'ſ K",
    "1 22 333 4444 55555 ½ ² Ⅷ ٣٤ 1.000,00 a1b2",
    "   7 8  99",
    "中文没有空格。日本語 한국어",
    "ﬁ ﬅ ß ẞ Å Å Ω",
    "<0x0A> <s> [INST] <unk>",
)
LONG = ("x" * 100_000, "abcat" * 20_000, "1" * 100_000, "中文" * 50_000, "a" * 70_000 + " b" * 15_000)


def train_text(seed: int = 0, words: int = 3000) -> str:
    """Return words in random order."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(words))


def random_strings(count: int, seed: int = 0) -> list[str]:
    """Return strings of words, of pieces that matter to tokenizers, and of any characters."""
    rng = random.Random(seed)
    pieces = [
        *WORDS,
        *" \n\r\t'▁",
        "  ",
        "\r\n",
        "é",
        "e\u0301",
        "😀",
        "👩‍👧",
        "\u0301",
        "\x00",
        "ſ",
        "１",
        "Å",
        "ab",
    ]
    pieces += list("abcdefghij0123456789.,!?\u00a0\u3000\u2028中日")

    def one() -> str:
        if rng.random() < 0.3:
            codes = (rng.choice((0x7F, 0x2FF, 0x3100, 0x10FFFF)) for _ in range(rng.randrange(1, 20)))
            chars = [chr(rng.randrange(1, limit)) for limit in codes]
            return "".join(c for c in chars if not "\ud800" <= c <= "\udfff")
        return "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 30)))

    return [one() for _ in range(count)]


def byte_level(
    steps: Sequence[Any], *, specials: Sequence[str] = ("<|endoftext|>",), size: int = 600, **settings: Any
) -> Tokenizer:
    """Return byte pairs learned after these splits, the last of which makes bytes of text."""
    made = Tokenizer(models.BPE(**settings))
    made.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(specials),
        show_progress=False,
    )
    made.train_from_iterator([train_text()], trainer)
    return made


def template(made: Tokenizer, token: str, end: str | None = None) -> Any:
    """Return a post-processor that begins a text with this token."""
    tokens = [(name, made.token_to_id(name)) for name in (token, end) if name]
    last = f" {end}" if end else ""
    return processors.TemplateProcessing(
        single=f"{token} $A{last}", pair=f"{token} $A {token} $B:1", special_tokens=tokens
    )


def split(pattern: str) -> Any:
    """Return a split by a regular expression that keeps everything."""
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def plain_bytes(*, use_regex: bool = True) -> Any:
    """Return the step that makes bytes of text."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def write(folder: Path, made: Tokenizer, model_type: str = "llama", **config: Any) -> None:
    """Write a tokenizer with the files beside it that say whose it is."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def llama3(folder: Path) -> None:
    made = byte_level(
        [split(LLAMA3_PATTERN), plain_bytes(use_regex=False)],
        specials=["<|begin_of_text|>", "<|end_of_text|>"],
        ignore_merges=True,
    )
    begin = template(made, "<|begin_of_text|>")
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    named = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    write(folder, made, tokenizer_class="PreTrainedTokenizerFast", **named)


def smollm2(folder: Path, tokenizer_class: str = "PreTrainedTokenizerFast") -> None:
    made = byte_level([pre_tokenizers.Digits(individual_digits=True), plain_bytes()])
    write(folder, made, tokenizer_class=tokenizer_class, bos_token="<|endoftext|>", add_prefix_space=False)


def qwen2(folder: Path, model_type: str = "qwen2", tokenizer_class: str = "Qwen2Tokenizer") -> None:
    made = byte_level(
        [split(QWEN2_PATTERN), plain_bytes(use_regex=False)],
        specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    made.normalizer = normalizers.NFC()
    made.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    write(folder, made, model_type, tokenizer_class=tokenizer_class, eos_token="<|im_end|>", bos_token=None)


def qwen2_in_two_files(folder: Path) -> None:
    qwen2(folder)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.model.save(str(folder))
    (folder / "tokenizer.json").unlink()


def several_splits(folder: Path) -> None:
    steps = [split(r"[\r\n]"), split(r"\s?[A-Za-z]+"), split(r"\s?[!-/:-~]+"), split(r"\s+$")]
    steps += [split("[一-龥]+"), pre_tokenizers.Digits(individual_digits=True), plain_bytes(use_regex=False)]
    write(folder, byte_level(steps), tokenizer_class="LlamaTokenizerFast")


def digits_in_threes(folder: Path) -> None:
    steps = [
        pre_tokenizers.Punctuation("contiguous"),
        plain_bytes(),
        pre_tokenizers.Digits(),
        split("[0-9]{3}"),
    ]
    write(folder, byte_level(steps))


def with_added_tokens(folder: Path) -> None:
    made = byte_level([pre_tokenizers.Digits(individual_digits=True), plain_bytes()])
    made.add_tokens(
        [
            AddedToken("ca", single_word=True),
            AddedToken("flat", lstrip=True),
            AddedToken("sat", rstrip=True, normalized=False),
            "foo() b",
            "é",
        ]
    )
    write(folder, made)


def sentencepiece(*, unknown: str | None = "<unk>", added: Sequence[Any] = (), **settings: Any) -> Tokenizer:
    """Return pairs of characters with all bytes, as in Llama 2: its normalizer, and tokens in its order."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator([train_text()], trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    merges = learned["merges"]
    for run in ("▁▁", "▁▁▁▁"):
        half = run[: len(run) // 2]
        learned["vocab"].setdefault(run, len(learned["vocab"]))
        merges.append([half, run[len(half) :]])
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += dict.fromkeys(left + right for left, right in merges)
    names += [name for name in learned["vocab"] if name not in set(names)]
    made = Tokenizer(
        models.BPE(
            vocab={name: token for token, name in enumerate(names)},
            merges=[tuple(pair) for pair in merges],
            unk_token=unknown,
            **{"fuse_unk": True, "byte_fallback": True} | settings,
        )
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.post_processor = template(made, "<s>")
    made.add_tokens(list(added))
    return made


def llama2(folder: Path, model_type: str = "llama", **settings: Any) -> None:
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True} | settings
    write(folder, sentencepiece(), model_type, **settings)


def metaspace(folder: Path, scheme: str = "first", *, split: bool = False, **more: Any) -> None:
    made = sentencepiece(**more)
    made.normalizer = None
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    write(folder, made)


def without_bytes(folder: Path) -> None:
    made = SentencePieceBPETokenizer(unk_token="<unk>", fuse_unk=True)
    made.train_from_iterator([train_text()], vocab_size=300, show_progress=False, special_tokens=["<unk>"])
    write(folder, made._tokenizer)


def with_an_end(folder: Path) -> None:
    made = sentencepiece()
    made.post_processor = template(made, "<s>", "</s>")
    write(folder, made, "mistral")


Maker = Callable[[Path], None]
KINDS: dict[str, Maker] = {
    "llama 3": llama3,
    "smollm2": smollm2,
    "smollm2 as its files name it": lambda folder: smollm2(folder, "GPT2Tokenizer"),
    "qwen2": qwen2,
    "qwen2 of another class": lambda folder: qwen2(folder, "llama", "PreTrainedTokenizerFast"),
    "qwen3": lambda folder: qwen2(folder, "qwen3"),
    "qwen2 in two files": qwen2_in_two_files,
    "several splits": several_splits,
    "digits in threes": digits_in_threes,
    "added tokens": with_added_tokens,
    "llama 2": llama2,
    "llama 2 as its files name it": lambda folder: llama2(folder, tokenizer_class="LlamaTokenizer"),
    "llama 2, legacy": lambda folder: llama2(folder, tokenizer_class="LlamaTokenizer", legacy=True),
    "mistral": lambda folder: llama2(folder, "mistral", tokenizer_class="LlamaTokenizer"),
    "metaspace first": metaspace,
    "metaspace always, split": lambda folder: metaspace(folder, "always", split=True),
    "metaspace never": lambda folder: metaspace(folder, "never"),
    "metaspace with added tokens": lambda folder: metaspace(folder, added=["flat", "zz"]),
    "prepended with added tokens": lambda folder: write(folder, sentencepiece(added=["flat", "zz", "▁x"])),
    "sentencepiece without bytes": without_bytes,
    "an end after each text": with_an_end,
}
