"""Small things that stand in for trained ones."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from mygpt_cli.checkpoints import saving
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

TEXT = "Once upon a time there was a cat.\nThe cat sat on a mat, and the mat was flat. 😀é\n" * 30

SAMPLES = [
    "Hello there, it's a test; I'LL say WE'VE done, don't you? He'd've.",
    "naïve café, Ünïcödé, e\u0301 combining, \u017f long s: it'\u017f",
    "emoji 😀👩‍👩‍👧 flag 🇳🇱, ZWJ\u200d and \ufeff mark",
    "line one\r\nline two\r\n\r\n\r\n  indented\n\tTab\t\ttabs \n \n x",
    "中文没有空格。\n日本語のテキスト!\n한국어 문장 12345",
    "def f(x):\n    return {'a': x[0] ** 2}  # note\n\n\nclass A:\n\tpass\n",
    "1 22 333 4444 55555 ½ ² Ⅷ ٣٤",
    "   leading, trailing   ",
    "\u00a0no-break\u3000wide\u2028separator\x85next\x1cfile\x0bvt",
    "Ġ literal Ċ of the byte alphabet ĉ",
    "",
]


def random_checkpoint(folder: Path, *, arch: str = "gpt2", context: int = 24) -> Path:
    """Save a small model with random weights and a learned tokenizer; return its folder."""
    tokenizer = train_tokenizer("bpe", [TEXT], vocab_size=280, end_of_text=True)
    model = random_model(tokenizer.vocab_size, arch=arch, context=context)
    state = {
        "format": 1,
        "step": 7,
        "steps": 9,
        "tokens": 700,
        "history": {"seconds": 71.0, "best_step": 6, "best_bits_per_byte": 2.5},
    }
    saving.save(folder, model=model, tokenizer=tokenizer, state=state)
    return folder


def random_model(size: int, *, arch: str = "gpt2", context: int = 24, **parts: Any) -> GPT:
    """Return a model that has learned nothing, whose logits differ enough to be told apart."""
    shape: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "context": context}
    model = GPT(configure(arch, vocab_size=size, **(shape | parts)))
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=rng)
    return model.requires_grad_(False)


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of single bytes and an end-of-text token."""
    return train_tokenizer("bpe", ["ab"], vocab_size=257, end_of_text=True)


def corpus_text() -> str:
    """Return a text in which all hard samples come several times."""
    return "\n".join(SAMPLES) * 4


@cache
def learned(vocab_size: int = 420, end_of_text: bool = False) -> Tokenizer:
    """Return byte pairs learned from it."""
    return train_tokenizer("bpe", [corpus_text()], vocab_size=vocab_size, end_of_text=end_of_text)
