"""What happens during training, as plain records; `ui` decides how they look."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mygpt_cli.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What will be trained, on what, from `step` on; `reasons` says why mygpt chose what nobody set.

    The `parameters` are those of the model that is trained, of several of each.
    """

    config: TrainConfig
    step: int
    seconds: float | None  # of the budget, where it is one of time
    reasons: Mapping[str, str]
    tokenizer: str
    vocab_size: int
    train_tokens: int
    train_characters: int
    val_tokens: int
    parameters: int
    saved_parameters: int
    tokens_per_step: int
    device: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Started:
    """Training begins, or goes on from `step`."""

    step: int
    steps: int
    parameters: int
    tokens_per_step: int
    tokens_per_epoch: int
    device: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state after a step; the loss is the mean since the last such event, in nats per token."""

    step: int
    epoch: float
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    seconds: float
    memory: int  # bytes at the peak


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The number of steps in all is another from here on, so that a budget of time is kept."""

    step: int
    steps: int
    before: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Loss over the whole validation text, every token predicted once in non-overlapping windows."""

    step: int
    train_loss: float  # mean over the steps since the last validation, in nats per token
    val_loss: float  # nats per token
    bits_per_byte: float
    nats_per_character: float
    best: bool
    seconds: float
    stage: int = 0  # which of the run's models it was


@dataclass(frozen=True, kw_only=True)
class CheckpointDue:
    """The trainer's state is worth keeping now; whoever drives it saves before asking for the next event."""

    step: int
    best: bool
    last: bool
    keep: bool  # for good


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What the model writes at this point of its training."""

    step: int
    seconds: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Noted:
    """Something that the user should know, in plain words."""

    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Training ended and was saved: `done`, `no longer improves`, or the name of the signal that asked.

    `refused` counts the steps that were not taken because their numbers were not finite or far too large.
    """

    step: int
    reason: str
    seconds: float
    best_step: int | None
    best_bits_per_byte: float | None
    refused: int


Event = Started | Progress | Corrected | Evaluated | CheckpointDue | Saved | Sampled | Noted | Finished
