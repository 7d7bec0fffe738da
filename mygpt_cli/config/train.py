"""Every setting, with its help and range beside it.

`Settings` holds what was set anywhere (see `settings.py`); `training.sizing` fills in what was not, and the
result is a `TrainConfig`: complete, validated, and written into the run folder as `config.toml`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mygpt_cli.base.errors import UsageError, did_you_mean
from mygpt_cli.base.names import name_fault
from mygpt_cli.config.course import MOST_STEPS, Course, is_course
from mygpt_cli.config.knobs import flag_of, knob, knobs
from mygpt_cli.model.architectures import ARCHITECTURES, DEFAULT, TRAINABLE, configure, find
from mygpt_cli.model.config import LONGEST_CONTEXT, ModelConfig, shape_faults
from mygpt_cli.text.encoding import encoding_fault

BUDGETS = ("epochs", "tokens", "time", "steps")
WITHOUT_FLAG = ("files", "corrections")  # arguments, and what a run writes down

Settings = dict[str, Any]


def parse_duration(text: str) -> float:
    """Turn `90`, `90s`, `5m`, `1h30m` or `2d` into seconds; ValueError for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text):
        raise ValueError(f"'{text}' is not a duration such as 90s, 5m or 1h30m")
    unit = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(
        float(number) * unit[letter] for number, letter in re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training run depends on; raises UsageError listing everything that is wrong."""

    files: tuple[str, ...] = knob("Texts to learn from.", "Text", ())
    val_file: str | None = knob("Validate on this file instead of a part of the text.", "Text", None)
    val_fraction: float = knob(
        "Last part of the text, kept for validation; unless set, at most a million characters.",
        "Text",
        0.1,
        above=0,
        at_most=0.5,
    )
    encoding: str = knob("Encoding of the files, such as cp1252 or utf-16.", "Text", "utf-8")
    errors: str = knob(
        "What to do with bytes that are invalid in that encoding.",
        "Text",
        "strict",
        choices=("strict", "replace"),
    )

    tokenizer: str = knob(
        "char, bpe (learned from the text), or a tiktoken encoding such as gpt2.", "Tokens", "bpe"
    )
    vocab_size: int | None = knob("Entries of a learned vocabulary.", "Tokens", at_least=2, at_most=131_072)

    init_from: str | None = knob("Start from this checkpoint, with its tokenizer and shape.", "Model", None)
    arch: str = knob("Architecture.", "Model", DEFAULT, choices=TRAINABLE)
    layers: int = knob("Number of blocks.", "Model", at_least=1, at_most=1000)
    heads: int = knob("Attention heads in each block.", "Model", at_least=1, at_most=1000)
    width: int = knob("Channels of the residual stream.", "Model", at_least=2, at_most=100_000)
    context: int = knob("Tokens the model sees at once.", "Model", at_least=2, at_most=LONGEST_CONTEXT)
    dropout: float = knob("Share of activations dropped while training.", "Model", at_least=0, below=1)
    bpe_dropout: float = knob(
        "Share of tokens split into their parts while training.", "Model", at_least=0, below=1
    )
    softcap: float = knob(
        "Soft cap of the logits; 0 for none (nanochat only).", "Model", 0.0, at_least=0, below=1e6
    )
    bias: bool = knob("Biases in norms and linear layers (gpt2 only).", "Model")

    steps: int = knob("Number of optimizer steps.", "Budget", at_least=1, at_most=MOST_STEPS)
    epochs: float | None = knob("Times to go through the text.", "Budget", None, above=0, at_most=1_000_000)
    tokens: int | None = knob(
        "Tokens to learn from, such as 20M.", "Budget", None, at_least=1, at_most=10**15
    )
    time: str | None = knob("Time for all of it, such as 90s, 5m or 1h30m.", "Budget", None)
    corrections: tuple[tuple[int, int], ...] = knob(
        "Total steps as adjusted to keep a budget of time: [from step, total] pairs.", "Budget", ()
    )

    batch_size: int = knob("Sequences in one forward pass.", "Optimizer", at_least=1, at_most=1_000_000)
    accumulation: int = knob(
        "Forward passes for one optimizer step.", "Optimizer", 1, at_least=1, at_most=100_000
    )
    optimizer: str = knob(
        "muon (matrices; AdamW for the rest) or adamw.", "Optimizer", "muon", choices=("muon", "adamw")
    )
    lr: float = knob("Peak learning rate of AdamW.", "Optimizer", above=0, at_most=10)
    muon_lr: float = knob("Peak learning rate of Muon.", "Optimizer", above=0, at_most=10)
    weight_decay: float = knob(
        "Decay of the matrices, times the learning rate.", "Optimizer", at_least=0, at_most=100
    )
    beta1: float = knob("AdamW's memory of the gradient.", "Optimizer", at_least=0, below=1)
    beta2: float = knob("AdamW's memory of the squared gradient.", "Optimizer", at_least=0, below=1)
    clip: float = knob("Largest gradient norm; 0 for no clipping.", "Optimizer", 1.0, at_least=0)

    schedule: str = knob("How the learning rate falls.", "Schedule", choices=("linear", "cosine", "constant"))
    warmup: int = knob("Steps over which the learning rate rises.", "Schedule", at_least=0)
    decay_share: float = knob("Share of the steps over which it falls.", "Schedule", at_least=0, at_most=1)
    final_lr: float = knob(
        "Learning rate at the end, as a share of the peak.", "Schedule", at_least=0, at_most=1
    )

    patience: int = knob(
        "Validations without a better one before training may end early; 0: never.", "Budget", at_least=0
    )

    name: str | None = knob("Name of the run; the default is the text's.", "Run", None)
    out: str = knob("Folder in which runs are kept.", "Run", "checkpoints")
    seed: int = knob("Seed of every random draw.", "Run", 1337, at_least=0, at_most=2**63 - 1)
    device: str = knob("Where to compute.", "Run", "auto", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = knob(
        "Arithmetic of the matrix products.", "Run", "auto", choices=("auto", "float32", "bfloat16")
    )
    compile: str = knob(
        "Compile what a step does between its matrix products.", "Run", "auto", choices=("auto", "on", "off")
    )
    eval_every: int = knob("Steps between validations.", "Run", at_least=1)
    save_every: int = knob("Steps between checkpoints.", "Run", at_least=1)
    keep_every: int = knob(
        "Steps between checkpoints that stay, in the run's kept/; 0: none.", "Run", 0, at_least=0
    )
    log_every: int = knob("Steps between progress lines.", "Run", at_least=1)
    tensorboard: bool = knob("Also write event files for TensorBoard.", "Run", False)

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        raise_faults(setting_faults(values))

    @property
    def course(self) -> Course:
        """How many steps there are in all, from each step on."""
        return self.corrections or ((0, self.steps),)

    @property
    def validation_interval(self) -> int:
        """Steps between validations; above all steps where the plan is to validate once, at the end."""
        return self.eval_every if self.eval_every < self.course[0][1] else MOST_STEPS + 1

    def corrected(self, step: int, steps: int) -> "TrainConfig":
        """Return the same training, of another number of steps from this step on."""
        return replace(self, steps=steps, corrections=(*self.course, (step, steps)))

    def in_smaller_parts(self) -> "TrainConfig":
        """Return the same training, the sequences of each step taken in smaller parts than before."""
        parts = next(n for n in range(2, self.batch_size + 1) if self.batch_size % n == 0)
        return replace(self, batch_size=self.batch_size // parts, accumulation=self.accumulation * parts)

    def model(self, vocab_size: int) -> ModelConfig:
        """Return the shape of the model for a vocabulary of this size."""
        return configure(
            self.arch,
            vocab_size=vocab_size,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            context=self.context,
            dropout=self.dropout,
            **{name: getattr(self, name) for name in find(self.arch).options},
        )


def setting_faults(settings: Mapping[str, Any], called: Callable[[str], str] = flag_of) -> list[str]:
    """List what is wrong with the given settings, known so far or complete.

    `called` returns the name of a setting where these come from.
    """
    faults = [
        fault
        for name, value in settings.items()
        if value is not None and (fault := _value_fault(name, value, called(name)))
    ]
    if faults:
        return faults
    given = [called(name) for name in BUDGETS if settings.get(name) is not None]
    if len(given) > 1:
        faults.append(f"{' and '.join(given)} contradict each other: give one")
    corrections, steps = settings.get("corrections"), settings.get("steps")
    if corrections and steps != corrections[-1][1]:
        names = called("corrections"), called("steps")
        faults.append(
            f"{names[0]} end with {corrections[-1][1]} steps, but {names[1]} is {steps or 'not set'}"
        )
    architecture = find(settings.get("arch", DEFAULT))
    if not architecture.trainable and not settings.get("init_from"):
        faults.append(
            f"{called('arch')} {architecture.name} is only fine-tuned, with {called('init_from')}: "
            f"a text alone trains {', '.join(TRAINABLE)}"
        )
    if settings.get("bias") and "bias" not in architecture.options:
        others = " or ".join(f"--arch {name}" for name, it in ARCHITECTURES.items() if "bias" in it.options)
        faults.append(f"{architecture.name} has no biases: leave --bias out or use {others}")
    if settings.get("width") and settings.get("heads") and not settings.get("init_from"):
        even = architecture.parts["positions"] == "rotary"
        faults += shape_faults(settings["width"], settings["heads"], even=even)
    return faults


def _value_fault(name: str, value: Any, called: str) -> str | None:
    known = knobs(TrainConfig)
    if name not in known:
        return f"{called} is no setting{did_you_mean(name, known)}"
    if name == "corrections":
        return None if is_course(value) else f"{called} must be pairs of whole numbers in ascending order"
    knob = known[name]
    if not _has_type(value, knob.kind):
        return f"{called} must be {_TYPE_NAMES[knob.kind]}, not {value!r}"
    if name == "name":
        fault = name_fault(value)
        return fault and f"{called} '{value}' {fault}"
    if name == "encoding":
        fault = encoding_fault(value)
        return fault and f"{called}: {fault}"
    if name == "time":
        try:
            return None if parse_duration(value) > 0 else f"{called} must be above 0"
        except ValueError as error:
            return f"{called}: {error}"
    if name == "arch" and value in ARCHITECTURES:
        return None  # which also has those that are only fine-tuned
    return knob.fault(value, called)


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a list of texts",
}


def _has_type(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, tuple | list) and all(isinstance(part, str) for part in value)
    return isinstance(value, kind)


def raise_faults(faults: list[str]) -> None:
    """Raise one UsageError for all faults, if there are any."""
    if faults:
        raise UsageError(faults, "`mygpt train --help` lists every setting with its range")
