"""What a checkpoint is: identity, shape, parameters by part, tokenizer, training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.runs import run_of
from mygpt_cli.inspection.history import number, read_history, whole
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT


@dataclass(frozen=True)
class Part:
    """Parameters of one kind: how many tensors hold them, and how many numbers."""

    name: str
    tensors: int
    parameters: int


@dataclass(frozen=True)
class TokenizerFacts:
    """The vocabulary of the tokenizer; `end_of_text` parts texts, None where there is no such token.

    Generation ends at each of `ends`. The model has so many ids more, its `padding`, or does not have those
    of the tokenizer's tokens that are `missing`. Each text begins with the tokens of the `prefix`.
    """

    kind: str
    vocab_size: int
    end_of_text: int | None
    ends: tuple[int, ...]
    padding: int
    missing: tuple[str, ...]
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True)
class Training:
    """How far training was when the checkpoint was saved; None where nothing says so.

    Losses are those of the last validation up to then: nats per token, and bits per byte. The training loss
    is the mean since step `train_from`, that of the validation before.
    """

    step: int | None
    steps: int | None
    tokens: int | None
    seconds: float | None
    train_loss: float | None
    val_loss: float | None
    bits_per_byte: float | None
    best_step: int | None
    best_bits_per_byte: float | None
    train_from: int | None = None


@dataclass(frozen=True)
class Summary:
    """A checkpoint, described; `bytes` is the size of its weights in memory. `training` is None elsewhere."""

    folder: str
    model: ModelConfig
    parts: tuple[Part, ...]
    parameters: int
    bytes: int
    tokenizer: TokenizerFacts
    training: Training | None


_PARTS = {
    "embedding": "token embedding",
    "positions": "position embedding",
    "attention": "attention",
    "mlp": "feed-forward",
    "norm": "norms",
    "head": "head",
}


def summarise(checkpoint: Checkpoint) -> Summary:
    """Describe a loaded checkpoint."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    return Summary(
        folder=str(checkpoint.folder),
        model=checkpoint.config,
        parts=parts_of(model),
        parameters=sum(p.numel() for p in model.parameters()),
        bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        tokenizer=TokenizerFacts(
            kind=tokenizer.kind,
            vocab_size=tokenizer.own_size,
            end_of_text=tokenizer.end_of_text,
            ends=tokenizer.ends,
            padding=max(0, tokenizer.vocab_size - tokenizer.own_size),
            missing=tuple(tokenizer.missing),
            prefix=tokenizer.prefix,
        ),
        training=None if checkpoint.state is None else _training(checkpoint.state, run_of(checkpoint.folder)),
    )


def parts_of(model: GPT) -> tuple[Part, ...]:
    """Count the parameters of each part of the model; every parameter belongs to exactly one."""
    tensors = dict.fromkeys(_PARTS.values(), 0)
    numbers = dict.fromkeys(_PARTS.values(), 0)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        tensors[part] += 1
        numbers[part] += parameter.numel()
    return tuple(Part(name, tensors[name], numbers[name]) for name in tensors if tensors[name])


def part_of(name: str) -> str:
    """Return to which part of the model a parameter belongs."""
    owner = name.rpartition(".")[0] or name  # "blocks.0.mlp.up" of its weight and bias
    return next(part for key, part in _PARTS.items() if key in _owners(owner))


def _owners(name: str) -> list[str]:
    # "attention_norm" and "mlp_norm" are norms
    return ["norm" if owner.endswith("norm") else owner for owner in name.split(".")]


def _training(state: dict[str, Any], run: Path | None) -> Training:
    history = state.get("history")
    history = history if isinstance(history, dict) else {}
    step = whole(state.get("step"))
    # The last validation up to the checkpoint's own step.
    validations = read_history(run).validations if run else ()
    earlier = [validation for validation in validations if validation.step <= (step or 0)]
    validation = earlier[-1] if earlier else None
    before = 0 if len(earlier) < 2 else earlier[-2].step
    return Training(
        step=step,
        steps=whole(state.get("steps")),
        tokens=whole(state.get("tokens")),
        seconds=number(history.get("seconds")),
        train_loss=validation.train_loss if validation else None,
        val_loss=validation.val_loss if validation else None,
        bits_per_byte=validation.bits_per_byte if validation else None,
        best_step=whole(history.get("best_step")),
        best_bits_per_byte=number(history.get("best_bits_per_byte")),
        train_from=before if validation else None,
    )
