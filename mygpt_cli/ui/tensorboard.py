"""A run's numbers as event files for TensorBoard, through torch's own writer."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mygpt_cli.base.errors import ResourceError, UsageError
from mygpt_cli.training.events import Evaluated, Event, Progress

FOLDER = "tensorboard"
FLUSH_SECONDS = 10


def check_tensorboard() -> None:
    """Raise UsageError where torch finds no TensorBoard to write with."""
    try:
        _writer()
    except ImportError:
        raise UsageError(
            "--tensorboard needs TensorBoard, which is not installed", "pip install tensorboard"
        ) from None


def _writer() -> Any:
    from torch.utils.tensorboard import SummaryWriter  # not installed with torch

    return SummaryWriter


class TensorBoard:
    """Writes events into a run's folder `tensorboard/` from a thread of its own; flushed when it is left.

    A resumed run goes on at its `step`; what is there of later steps is no longer shown.
    """

    def __init__(self, run: Path, step: int) -> None:
        self._run = run
        purge = {"purge_step": step + 1} if step else {}
        self._writer = self._guarded(_writer(), run / FOLDER, flush_secs=FLUSH_SECONDS, **purge)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guarded(self._writer.close)

    def log(self, event: Event) -> None:
        """Write the numbers of an interval or a validation; other events have none."""
        if isinstance(event, Progress):
            values = {
                "loss/training": event.loss,
                "learning rate": event.lr,
                "gradient norm": event.grad_norm,
                "tokens per second": event.tokens_per_second,
            }
        elif isinstance(event, Evaluated):
            values = {"loss/validation": event.val_loss, "bits per byte": event.bits_per_byte}
        else:
            return
        for name, value in values.items():
            self._guarded(self._writer.add_scalar, name, value, event.step)

    def _guarded(self, write: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return write(*arguments, **options)
        except OSError as error:
            folder = self._run / FOLDER
            raise ResourceError(
                f"cannot write to {folder}: {error.strerror or error}",
                "free some space and --resume, or go on with --no-tensorboard",
            ) from None
