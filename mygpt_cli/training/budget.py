"""A budget of time: how many steps fit into it, as fast as this machine is now."""

import bisect
import math
import time
from collections import deque
from collections.abc import Sequence
from itertools import combinations, islice
from statistics import median

from mygpt_cli.config.course import MOST_STEPS
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.history import History

START, SAVE = 0.4, 0.05  # seconds for starting Python and leaving it, and for each save
MISSED = 0.01  # fraction of all steps by which their number may be wrong before it is corrected,
UNSURE = 0.05  # and of those that are left, since it can still be corrected later
KNOWN = 0.05  # fraction of the time until which it is not, since the first steps say little
LOOKS = 200  # in that time, to see whether it is wrong
RECENT = 0.25  # of the steps that are left: as many of the last ones tell how long these will take
FEWEST, MOST = 5, 10_000  # of those


def typical(seconds: Sequence[float]) -> float:
    """Return the mean; a hiccup counts, since there will be others, but not for more than three times."""
    most = 3 * median(seconds)
    return sum(min(taken, most) for taken in seconds) / len(seconds)


class Budget:
    """Time until `end`, in seconds of `time.perf_counter`; without an end, nothing is ever corrected.

    `pace` is what a step takes and `validation` what a validation does, in seconds, as measured before
    training; there are `most_steps` steps at most, however much time there is. While training runs, `begin`,
    then `stepped`, `sampled`, `validated` and `saved` keep them up to date.
    """

    def __init__(
        self,
        end: float = math.inf,
        pace: float = 1.0,
        validation: float = 0.0,
        most_steps: int = MOST_STEPS,
    ) -> None:
        self.end = end
        self._most_steps = most_steps
        self._measured = pace
        self._validation = validation / pace  # as a number of steps: it is as much slower as they are
        self._save = SAVE
        self._samples = 0.0
        self._taken = 0
        self._recent: deque[float] = deque(maxlen=MOST)
        self._lap_began = 0.0
        self._next_look = self._looks_apart = math.inf

    def begin(self) -> None:
        """Training begins now."""
        self._lap_began = time.perf_counter()
        self._looks_apart = (self.end - self._lap_began) / LOOKS
        self._next_look = self._lap_began + KNOWN * LOOKS * self._looks_apart

    def stepped(self) -> None:
        """A step was taken since the last call of any of these."""
        self._recent.append(self._lap())
        self._taken += 1

    def sampled(self, reserved: float) -> None:
        """A sample was written after a step; further ones will take so many seconds in all."""
        self._lap()
        self._samples = reserved

    def validated(self) -> None:
        """A validation has ended, and all that comes of one."""
        self._validation += (self._lap() / self._pace(1) - self._validation) / 2

    def saved(self, *, kept: bool) -> None:
        """A save has ended; of a checkpoint that stays, and with it the newest, there are two."""
        self._save += (self._lap() / (2 if kept else 1) - self._save) / 2

    def _lap(self) -> float:
        began, self._lap_began = self._lap_began, time.perf_counter()
        return self._lap_began - began

    def correction(self, config: TrainConfig, history: History) -> int | None:
        """Return the number of steps in all that keeps the time, when the one planned would miss it."""
        step = history.step
        left, now = config.steps - step, time.perf_counter()
        if left == 0 or now < self._next_look:
            return None
        self._next_look = now + self._looks_apart
        fitting = self.steps(config, history)
        near = abs(fitting - left) <= MISSED * (self._taken + left) + UNSURE * left
        return None if near else max(config.members, step + fitting)  # each model takes a step

    def steps(self, config: TrainConfig, history: History) -> int:
        """Return how many more steps fit, validations and saves included."""
        step, stages = history.step, config.members - 1 - history.stage  # which each end with a validation
        left = self.end - time.perf_counter() - START - self._samples
        pace = self._pace(config.steps - step)
        every = config.validation_interval
        often = every, config.save_every
        keep = config.keep_every or MOST_STEPS + 1
        both = [math.lcm(keep, interval) for interval in often]

        def seconds(count: int) -> float:
            last = step + count
            validations = _multiples(step, last, every) + (last % every > 0) + stages
            saves = _multiples(step, last, *often) + 2 * _multiples(step, last, keep)
            saves += all(last % interval for interval in (*often, keep)) - _multiples(step, last, *both)
            return (count + validations * self._validation) * pace + saves * self._save

        most = min(self._most_steps - step, max(0, int(left / pace)))
        return max(0, bisect.bisect_right(range(most + 1), left, key=seconds) - 1)

    def _pace(self, left: int) -> float:
        """Estimate how long each of so many steps will take, from the last ones: for fewer, from fewer."""
        count = max(FEWEST, int(RECENT * left))
        return typical(list(islice(reversed(self._recent), count))) if self._recent else self._measured


def _multiples(low: int, high: int, *numbers: int) -> int:
    """Count the multiples of any of the numbers above low and up to high."""
    return sum(
        (-1) ** (size + 1) * (high // math.lcm(*some) - low // math.lcm(*some))
        for size in range(1, len(numbers) + 1)
        for some in combinations(numbers, size)
    )
