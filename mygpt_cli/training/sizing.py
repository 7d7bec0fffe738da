"""What the user did not set: shape, batch, rates and steps, from the amount of text and of time."""

import time
from dataclasses import dataclass

from mygpt_cli.config import Settings, TrainConfig, parse_duration
from mygpt_cli.dataset import Dataset
from mygpt_cli.errors import TextError, UsageError
from mygpt_cli.training.trainer import Trainer

DEFAULT_TIME = "5m"
VALIDATIONS = 10  # over a run, unless --eval-every says otherwise
SHORTEST = 10  # steps that a budget of time must allow


@dataclass(frozen=True)
class Plan:
    """A run in all but its number of steps, which is either given or what fits into `seconds`."""

    settings: Settings
    steps: int | None
    seconds: float | None
    notes: tuple[str, ...]

    def config(self, steps: int) -> TrainConfig:
        """Return the configuration for this many steps; UsageError lists all that is wrong with it."""
        by_steps: Settings = {
            "warmup": min(steps // 20, 100),
            "schedule": "linear",
            "decay_share": 0.7,
            "final_lr": 0.0,
            "eval_every": max(1, steps // VALIDATIONS),
            "save_every": max(1, steps // VALIDATIONS),
            "log_every": max(1, steps // 50),
        }
        return TrainConfig(**(by_steps | self.settings | {"steps": steps}))


def plan(settings: Settings, dataset: Dataset) -> Plan:
    """Choose what the settings leave open.

    Raises TextError for a text too short to learn from and UsageError listing every fault of the settings.
    """
    chosen = {name: value for name, value in settings.items() if value is not None}
    notes = []
    arch = chosen.setdefault("arch", "nanochat")
    chosen.setdefault("vocab_size", None)
    chosen.setdefault("layers", 4)
    chosen.setdefault("width", _near_width(chosen.get("heads"), 128))
    chosen.setdefault("heads", _near_heads(chosen["width"]))
    chosen.setdefault("dropout", 0.0)
    chosen.setdefault("bpe_dropout", 0.0)
    chosen.setdefault("bias", arch == "gpt2")
    chosen.setdefault("batch_size", 16)
    adamw = chosen.get("optimizer") == "adamw"
    chosen.setdefault("lr", 1e-3 if adamw else 5e-3)
    chosen.setdefault("muon_lr", 0.02)
    chosen.setdefault("weight_decay", 0.1 if adamw else 0.0)
    chosen.setdefault("beta1", 0.9 if adamw else 0.8)
    chosen.setdefault("beta2", 0.99 if adamw else 0.95)

    train_tokens, val_tokens = len(dataset.train), len(dataset.val)
    if train_tokens < 3 or val_tokens < 2:
        raise TextError(
            f"the text is too short: {train_tokens} tokens to train on and {val_tokens} to validate on",
            "give a longer text, or --tokenizer char, which makes more tokens of it",
        )
    wanted = chosen.setdefault("context", 128)
    if wanted > train_tokens - 1:
        chosen["context"] = train_tokens - 1
        notes.append(f"context: {train_tokens - 1} tokens instead of {wanted}, since the text has no more")

    steps, time_text = chosen.pop("steps", None), chosen.pop("time", None)
    if (epochs := chosen.pop("epochs", None)) is not None:
        tokens_per_step = chosen["batch_size"] * chosen.get("accumulation", 1) * chosen["context"]
        steps = max(1, round(epochs * train_tokens / tokens_per_step))
    if steps is None and time_text is None:
        time_text = DEFAULT_TIME
        notes.append(f"budget: {DEFAULT_TIME}, unless --time, --steps or --epochs says otherwise")
    seconds = None if time_text is None else parse_duration(time_text)
    return Plan(chosen, steps, seconds, tuple(notes))


def _near_width(heads: int | None, width: int) -> int:
    return width if heads is None else max(1, round(width / (2 * heads))) * 2 * heads


def _near_heads(width: int) -> int:
    """Return the number of heads whose even width is nearest to 32 channels; 1 when none is even."""
    divisors = [heads for heads in range(1, width + 1) if width % (2 * heads) == 0]
    return min(divisors or [1], key=lambda heads: abs(width // heads - 32))


def fit_steps(scratch: Trainer, seconds: float) -> int:
    """Measure how many steps fit into the seconds that are left, validations and saves included.

    The scratch trainer's weights are spent on it. Raises UsageError when too few fit to learn anything.
    """
    start = time.perf_counter()
    for step in range(3):
        scratch.update(step)
    times: list[float] = []
    while len(times) < 5 or (time.perf_counter() - start < min(2.0, seconds / 20) and len(times) < 200):
        begin = time.perf_counter()
        scratch.update(3 + len(times))
        times.append(time.perf_counter() - begin)
    step_seconds = sum(sorted(times)[: max(1, len(times) * 3 // 4)]) / max(1, len(times) * 3 // 4)
    overhead = (VALIDATIONS + 1) * (_validation_seconds(scratch) + 0.15)
    left = seconds - (time.perf_counter() - start) - overhead
    steps = int(left / (step_seconds * 1.02))
    if steps < SHORTEST:
        needed = seconds - left + SHORTEST * step_seconds
        raise UsageError(
            f"the time is too short: only {max(0, steps)} steps of training would fit",
            f"give at least --time {round(needed * 1.5) + 5}s, or a smaller model with --layers and --width",
        )
    return steps


def _validation_seconds(trainer: Trainer) -> float:
    """Estimate the time of a whole validation from a part of it."""
    part = trainer.dataset.val[: 32 * trainer.config.context]
    start = time.perf_counter()
    trainer.validation_loss(part)
    return (time.perf_counter() - start) * len(trainer.dataset.val) / len(part)
