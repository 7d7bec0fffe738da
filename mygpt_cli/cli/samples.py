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
ENDING = 0.25  # seconds that the one at the end may always take
TOKENS, LAST_TOKENS = 60, 200
LINES = 8  # at most


class Samples:
    """The samples of a run, always from the same draws, which leave its weights and its draws as they are."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._began = trainer.history.seconds
        self._due = FIRST
        self._spent = 0.0
        self._pass_over(self._began)

    def on_time(self) -> Iterator[Sampled]:
        """Yield a sample where one is due; the trainer asks after each step."""
        trainer = self._trainer
        history, budget = trainer.history, trainer.budget
        if history.seconds < self._due or history.step >= trainer.config.steps:
            return
        self._pass_over(history.seconds)
        began = time.perf_counter()
        left = budget.end - began if math.isfinite(budget.end) else 0.0
        more = self._due_before(history.seconds + left)
        most = (FRACTION * (history.seconds - self._began + max(0.0, left)) - self._spent) / (more + 1)
        trainer.average.show()  # which is what the run delivers; the next step hides it again
        try:
            yield self._sampled(TOKENS, min(most, LONGEST))
        except (MygptError, MemoryError, RuntimeError) as error:
            # A sample that cannot be had is no reason to stop; what is wrong, training will say.
            if not isinstance(error, MygptError) and not is_out_of_memory(error):
                raise
        self._spent += time.perf_counter() - began
        budget.sampled(more)

    def at_the_end(self) -> Sampled:
        """Return a longer sample."""
        return self._sampled(LAST_TOKENS, max(ENDING, FRACTION * self._trainer.history.seconds))

    def _pass_over(self, seconds: float) -> None:
        while self._due <= seconds:
            self._due *= 2

    def _due_before(self, end: float) -> int:
        """Return how many further samples are due before the run has taken so many seconds."""
        return max(0, math.ceil(math.log2(end / self._due))) if end > self._due else 0

    def _sampled(self, tokens: int, most: float) -> Sampled:
        """Let the model write until it has taken `most` seconds; at least one token."""
        trainer = self._trainer
        tokenizer, decoder = trainer.dataset.tokenizer, ReferenceDecoder(trainer.model)
        sampling = Sampling(seed=trainer.config.seed, max_new_tokens=tokens)
        prompt = read_prompt(tokenizer, "", trainer.config.context)
        text, began = "", time.perf_counter()
        for part in generate(decoder, tokenizer, [prompt], sampling, logprobs=False):
            text += part.text if isinstance(part, TextChunk) else ""
            if text.strip().count("\n") >= LINES or time.perf_counter() - began > most:
                break
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return Sampled(step=trainer.history.step, seconds=trainer.history.seconds, text=shown)
