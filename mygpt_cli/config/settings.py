"""The settings of training that were set: by flags, variables, a recipe, a preset, or a checkpoint."""

from collections.abc import Collection
from typing import TypedDict, cast

from mygpt_cli.config.course import Course


class Settings(TypedDict, total=False):
    """What was set of `TrainConfig`, where each field is declared with its help and range; the rest is open.

    It is a dictionary, since what nobody has set is not in it, and None is a value that some can be given.
    By the types here mypy checks each use of it; `as_settings` checks what comes from outside.
    """

    files: tuple[str, ...]
    val_file: str | None
    val_fraction: float
    encoding: str
    errors: str
    tokenizer: str
    vocab_size: int | None
    init_from: str | None
    arch: str
    layers: int
    heads: int
    width: int
    context: int
    dropout: float
    bpe_dropout: float
    softcap: float
    bias: bool
    time: str | None
    steps: int
    epochs: float | None
    tokens: int | None
    corrections: Course
    batch_size: int
    accumulation: int
    optimizer: str
    lr: float
    muon_lr: float
    weight_decay: float
    beta1: float
    beta2: float
    clip: float
    schedule: str
    warmup: int
    decay_fraction: float
    final_lr: float
    members: int
    average: float
    patience: int
    name: str | None
    out: str
    seed: int
    device: str
    dtype: str
    compile: str
    shard: bool
    tensorboard: bool
    eval_every: int
    save_every: int
    keep_every: int
    log_every: int


def without(settings: Settings, names: Collection[str]) -> Settings:
    """Return all settings but those of these names."""
    return cast(Settings, {name: value for name, value in settings.items() if name not in names})
