"""A machine whose clock and speed are what a test wants them to be."""

import random
import time
from collections.abc import Callable

import pytest

from mygpt_cli.training.events import Evaluated
from mygpt_cli.training.trainer import Trainer


class Machine:
    """Its clock moves only while it works; `slowness` says at what time work takes how many times as long.

    Each piece of work takes a little more or less by chance, and now and then a fifth of a second longer.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        slowness: Callable[[float], float],
        *,
        noise: float = 0.0,
        hiccups: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self._slowness, self._noise, self._hiccups = slowness, noise, hiccups
        self._random = random.Random(seed)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def work(self, seconds: float) -> None:
        """Do what takes so long when nothing slows the machine down."""
        seconds *= self._random.lognormvariate(0.0, self._noise)
        if self._random.random() < self._hiccups:
            seconds += 0.2
        self.now += seconds * self._slowness(self.now)

    def drive(
        self, trainer: Trainer, monkeypatch: pytest.MonkeyPatch, *, step: float, validation: float
    ) -> Trainer:
        """Let each step and validation of a trainer take so many seconds; return it."""
        update, evaluate = trainer.update, trainer._evaluate

        def slow_update(number: int) -> tuple[float, float]:
            self.work(step)
            return update(number)

        def slow_evaluate() -> Evaluated:
            self.work(validation)
            return evaluate()

        monkeypatch.setattr(trainer, "update", slow_update)
        monkeypatch.setattr(trainer, "_evaluate", slow_evaluate)
        return trainer
