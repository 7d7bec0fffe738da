"""What a model writes while it learns: samples at doubling times, in a small share of the time."""

import math
import time
from collections.abc import Iterator

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import MygptError, is_out_of_memory
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import TextChunk, generate, read_prompt
from mygpt_cli.training.events import Sampled
from mygpt_cli.training.trainer import Trainer

FIRST = 5.0  # seconds of training until the first sample; each further one comes after twice the time
FRACTION = 0.01  # of the time, for all of these together, and as much again for the one at the end
LONGEST = 5.0  # seconds for one of them, since other processes wait meanwhile
UNKNOWN = 2.0  # steps' time that the first one is thought to take
ENDING, LONGEST_ENDING = 0.25, 2.0  # seconds that the one at the end may always take, and at most
TOKENS, LAST_TOKENS = 60, 200
LINES = 8  # at most


class Samples:
    """The samples of a run, always from the same draws, which leave its weights and its draws as they are."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._began, self._first = trainer.history.seconds, trainer.history.step
        self._due = FIRST
        self._spent = 0.0
        self._least: float | None = None  # seconds that a single token takes, with all that it needs
        self._reading = 0.0  # of these, the model's own
        self._pass_over(self._began)

    def on_time(self) -> Iterator[Sampled]:
        """Yield a sample where one is due and can be afforded; the trainer asks after each step."""
        trainer = self._trainer
        history, budget = trainer.history, trainer.budget
        if trainer.config.shard:  # of which one process alone can read nothing
            return
        if history.seconds < self._due or history.step >= trainer.config.steps:
            return
        self._pass_over(history.seconds)
        began = time.perf_counter()
        gone = history.seconds - self._began
        pace = gone / (history.step - self._first)
        steps_left = (trainer.config.steps - history.step) * pace
        left = budget.end - began if math.isfinite(budget.end) else steps_left
        if left <= 0:
            return
        more = self._due_before(history.seconds + left)
        all_left = FRACTION * (gone + left) - self._spent
        most = all_left / (more + 1)
        if all_left < UNKNOWN * pace if self._least is None else most < self._least:
            return
        trainer.show()  # which the next step hides again
        exchanged = time.perf_counter() - began
        if sample := self._attempt(TOKENS, min(most, LONGEST) - 2 * exchanged):
            yield sample
        self._least = 2 * exchanged + self._reading
        took = time.perf_counter() - began + exchanged
        self._spent += took
        affordable = all_left - took
        budget.sampled(min(more * took, affordable) if affordable >= self._least else 0.0)

    def at_the_end(self) -> Sampled | None:
        """Return a longer sample, in what is left of the time; None where it cannot be had."""
        left = self._trainer.budget.end - time.perf_counter()
        most = min(LONGEST_ENDING, FRACTION * self._trainer.history.seconds, left)
        return self._attempt(LAST_TOKENS, max(ENDING, most))

    def _pass_over(self, seconds: float) -> None:
        while self._due <= seconds:
            self._due *= 2

    def _due_before(self, end: float) -> int:
        """Return how many further samples are due before the run has taken so many seconds."""
        return max(0, math.ceil(math.log2(end / self._due))) if end > self._due else 0

    def _attempt(self, tokens: int, most: float) -> Sampled | None:
        """Return a sample with text in it.

        One that cannot be had is no reason to stop; what is wrong, training says.
        """
        try:
            sample = self._sampled(tokens, most)
            return sample if sample.text.strip() else None
        except (MygptError, MemoryError, RuntimeError) as error:
            if not isinstance(error, MygptError) and not is_out_of_memory(error):
                raise
            return None

    def _sampled(self, tokens: int, most: float) -> Sampled:
        """Let the model write until it has taken `most` seconds; at least one token."""
        trainer = self._trainer
        tokenizer, decoder = trainer.dataset.tokenizer, ReferenceDecoder(trainer.delivered())
        sampling = Sampling(seed=trainer.config.seed, max_new_tokens=tokens)
        prompt = read_prompt(tokenizer, "", trainer.config.context)
        text, began = "", time.perf_counter()
        parts = generate(decoder, tokenizer, [prompt], sampling, logprobs=False)
        for number, part in enumerate(parts):
            text += part.text if isinstance(part, TextChunk) else ""
            if number == 0:
                self._reading = time.perf_counter() - began
            if text.strip().count("\n") >= LINES or time.perf_counter() - began > most:
                break
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return Sampled(step=trainer.history.step, seconds=trainer.history.seconds, text=shown)
