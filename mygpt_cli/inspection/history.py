"""How a run has gone so far: its losses over its steps, from `metrics.jsonl`."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mygpt_cli.checkpoints.metrics import is_running, read_metrics

Record = dict[str, Any]

MOST = 10**15  # steps; a number above is damage
MOST_WRITTEN = 2000  # characters of a sample
CALM = 0.01  # noise that a curve may keep, as a fraction of its height


@dataclass(frozen=True)
class Interval:
    """Training up to a step; None where nothing says so.

    `loss` is the mean since the interval before, in nats per token, `smoothed` the same without its noise.
    `lr` is AdamW's learning rate.
    """

    step: int
    epoch: float | None
    loss: float | None
    smoothed: float | None
    lr: float | None
    grad_norm: float | None
    tokens_per_second: float | None
    seconds: float | None


@dataclass(frozen=True)
class Validation:
    """Loss over the whole validation text at a step; `train_loss` is the mean since the one before."""

    step: int
    train_loss: float | None
    val_loss: float
    bits_per_byte: float | None
    nats_per_character: float | None
    seconds: float | None
    stage: int = 0  # which of the run's models it was


@dataclass(frozen=True)
class Written:
    """What the model wrote at a step of its training, after so many seconds."""

    step: int
    seconds: float | None
    text: str


@dataclass(frozen=True)
class RunHistory:
    """A run from its start to now.

    `reason` is why it ended: `done`, `no longer improves` or a signal's name; None while it runs, and where
    it was cut off. `step` is the last one known of `steps`. `best` is the validation with the lowest loss.
    """

    folder: str
    running: bool
    reason: str | None
    step: int
    steps: int | None
    seconds: float | None
    intervals: tuple[Interval, ...]
    validations: tuple[Validation, ...]
    best: Validation | None
    notes: tuple[str, ...]
    samples: tuple[Written, ...] = ()

    @property
    def share(self) -> float | None:
        """The fraction of the steps that is done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else None


def read_history(folder: Path) -> RunHistory:
    """Read the history of a run; what a damaged line says is left out, and a run may have none yet."""
    running = is_running(folder)  # asked first: a run that ends in between has then written its last line
    records = read_metrics(folder)
    intervals = _intervals(_by_step(records, "progress"))
    validations = _validations(_by_step(records, "evaluated"))
    notes = [record.get("text") for record in records if record.get("event") == "noted"]
    totals = [record for record in records if record.get("event") in ("started", "corrected")]
    ends = [record for record in records if record.get("event") == "finished"]
    end = ends[-1] if ends and not running else {}
    return RunHistory(
        folder=str(folder),
        running=running,
        reason=end["reason"] if isinstance(end.get("reason"), str) else None,
        step=max((whole(record.get("step")) or 0 for record in records), default=0),
        steps=whole(totals[-1].get("steps")) if totals else None,
        seconds=max((number(record.get("seconds")) or 0.0 for record in records), default=None),
        intervals=intervals,
        validations=validations,
        best=min(validations, key=lambda validation: validation.val_loss, default=None),
        notes=tuple(note for note in notes if isinstance(note, str)),
        samples=tuple(
            Written(record["step"], number(record.get("seconds")), record["text"][:MOST_WRITTEN])
            for record in _by_step(records, "sampled")
            if isinstance(record.get("text"), str)
        ),
    )


def _intervals(records: Sequence[Record]) -> tuple[Interval, ...]:
    losses = {record["step"]: loss for record in records if (loss := number(record.get("loss"))) is not None}
    smoothed = dict(zip(losses, smooth(list(losses.values())), strict=True))
    return tuple(
        Interval(
            step=record["step"],
            epoch=number(record.get("epoch")),
            loss=losses.get(record["step"]),
            smoothed=smoothed.get(record["step"]),
            lr=number(record.get("lr")),
            grad_norm=number(record.get("grad_norm")),
            tokens_per_second=number(record.get("tokens_per_second")),
            seconds=number(record.get("seconds")),
        )
        for record in records
    )


def _validations(records: Sequence[Record]) -> tuple[Validation, ...]:
    return tuple(
        Validation(
            step=record["step"],
            train_loss=number(record.get("train_loss")),
            val_loss=loss,
            bits_per_byte=number(record.get("bits_per_byte")),
            nats_per_character=number(record.get("nats_per_character")),
            seconds=number(record.get("seconds")),
            stage=whole(record.get("stage")) or 0,
        )
        for record in records
        if (loss := number(record.get("val_loss"))) is not None
    )


def _by_step(records: Sequence[Record], event: str) -> list[Record]:
    """Return the events of a kind in the order of their steps, the last one told of each."""
    found = {}
    for record in records:
        if record.get("event") == event and whole(record.get("step")) is not None:
            found[record["step"]] = record
    return [found[step] for step in sorted(found)]


def smooth(values: Sequence[float]) -> list[float]:
    """Take the noise out of a curve: a centred mean, as wide as the noise asks for and no wider.

    Noise is what sets a value apart from the middle of its neighbours; the mean of n values keeps 1/√n of it.
    At the ends the mean narrows, so that the curve begins and ends where it does.
    """
    apart = [abs(b - (a + c) / 2) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    settled = values[len(values) // 10 :]  # the first fall is no measure of what follows
    height = max(settled) - min(settled) if settled else 0.0
    if not apart or not height:
        return list(values)
    noise = statistics.median(apart)
    half = min(int((noise / (CALM * height)) ** 2 / 2), len(values) // 20)
    ends = [min(half, i, len(values) - 1 - i) for i in range(len(values))]
    return [statistics.fmean(values[i - end : i + end + 1]) for i, end in enumerate(ends)]


def whole(value: object) -> int | None:
    """Return a count as it is, and None for anything that is not one."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST
    return value if is_count else None  # type: ignore[return-value]


def number(value: object) -> float | None:
    """Return a finite number, and None for anything that is not one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if -1e300 < value < 1e300 and math.isfinite(value) else None
