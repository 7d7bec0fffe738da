"""The training loop: yields events, prints nothing, saves nothing, and depends on (seed, step) alone."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from mygpt_cli.backends.interfaces import TrainingBackend
from mygpt_cli.backends.reference import Autograd
from mygpt_cli.base.devices import peak_memory
from mygpt_cli.base.errors import DivergedError
from mygpt_cli.base.processes import Processes
from mygpt_cli.base.randomness import derive
from mygpt_cli.config.course import Course, steps_at
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.ensemble import is_shared
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.masks import DropoutMasks
from mygpt_cli.model.windows import read_in_a_row
from mygpt_cli.tokens.bpe_dropout import BPEDropout
from mygpt_cli.tokens.dataset import Batches, Dataset, val_windows
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.training.averaging import WeightAverage
from mygpt_cli.training.budget import Budget
from mygpt_cli.training.calibration import temperature
from mygpt_cli.training.events import (
    CheckpointDue,
    Corrected,
    Evaluated,
    Event,
    Finished,
    Noted,
    Progress,
    Started,
)
from mygpt_cli.training.extension import extend, factor_at
from mygpt_cli.training.fresh_weights import FreshWeights
from mygpt_cli.training.history import History
from mygpt_cli.training.judging import is_acceptable, is_hopeless, lower_rates, overfitting, useless
from mygpt_cli.training.members import Members, fill
from mygpt_cli.training.optimizer import under
from mygpt_cli.training.out_of_memory import at_once, with_fewer_at_once, within_memory
from mygpt_cli.training.pace import Pace
from mygpt_cli.training.parallel import Copies, Gathered
from mygpt_cli.training.sharing import (
    agreed,
    from_any,
    micro_batches,
    passes_of,
    take_over,
)
from mygpt_cli.training.stages import current_course
from mygpt_cli.training.validation import evaluate

WHOLE_TOKENS_FROM = 0.85  # fraction of the steps
NO_LONGER_IMPROVES = "no longer improves"
# Before the names of weights that a checkpoint has beside its model: where this is an average, those that are
# being trained, and where it is several models, those of each.
WEIGHTS, MEMBERS = "weights.", "members."

Result = TypeVar("Result")


class Trainer:
    """Trains a model on a dataset; every batch and every dropout mask is a function of (seed, step).

    The model decides the device and the compute type, and the `backend` trains it. `history` is the state of
    the loop. A `budget` of time is kept by another number of steps, which `config` records.

    Several `processes` share out the sequences of each step, and all that decides how training goes on is
    agreed among them: each has the same model after it. `parallel` says how they hold the model: by default
    each has a copy. `fresh_weights` are what all models of the run after the first begin with.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        model: GPT,
        history: History | None = None,
        backend: TrainingBackend | None = None,
        processes: Processes | None = None,
        parallel: Copies | None = None,
        fresh_weights: FreshWeights | None = None,
    ) -> None:
        self.config = config
        self.processes = processes or Processes()
        self._parallel = parallel or Copies(model, self.processes)
        self._gathered: Gathered | None = None
        self._sequences = config.batch_size * config.accumulation
        self._rows = self.processes.rows(self._sequences)
        self.dataset = dataset
        self.model = model
        self.device = model.embedding.device
        self.backend = backend or Autograd(model)
        self._fresh_weights = fresh_weights or FreshWeights(dataset, self.processes)
        self._members = Members(model)
        self.history = history or History()
        self._begin_optimizing()
        self.notes: list[str] = []  # to be said with the next event
        self.budget = Budget()
        self._pace = Pace()
        self._batches = Batches(
            dataset.train,
            seed=config.seed,
            batch_size=self._sequences,
            context=config.context,
            bpe_dropout=_bpe_dropout(dataset.tokenizer) if config.bpe_dropout else None,
        )
        self._masks = self._new_masks()

    def _new_masks(self) -> DropoutMasks | None:
        """Return the masks of a run whose passes are as large as they are now."""
        config = self.config
        if not config.dropout:
            return None
        dtype = self.model.compute_dtype
        return DropoutMasks(
            config.dropout, seed=derive(config.seed, "masks"), dtype=dtype, device=self.device
        )

    def _begin_optimizing(self) -> None:
        self.optimizer = self._parallel.optimizer(self.config, self.backend.muon)
        self.average = WeightAverage(self._parallel.parameters, self.config.average)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from."""
        return self._sequences * self.config.context

    @property
    def sequences_at_once(self) -> int:
        """Most sequences that this process takes in one forward pass."""
        return at_once(self.config, self.processes.count)

    def run(
        self,
        stop: Callable[[], str | None] = lambda: None,
        between: Callable[[], Iterable[Event]] = lambda: (),
    ) -> Iterator[Event]:
        """Train from the current step to the last; `config` has other micro-batches when memory ran out.

        `stop` is asked after each step and returns the reason to end early, such as a signal's name; so is
        `between` for further events, which tells the budget what they took.
        From a validation or save until the next step, and after the last, the model is the average, and
        `delivered` is what is validated and to be saved.
        Raises DivergedError when step after step must be refused: not finite, or far too large.
        """
        history, budget = self.history, self.budget
        started = time.perf_counter() - history.seconds
        self._parallel.check_same()
        yield self._started()
        reason = None
        parts = self.config.accumulation
        budget.begin()
        while history.step < self.config.steps and reason is None:
            self._gathered = None
            self.average.hide()
            if history.stage_step >= current_course(self.config, history)[-1][1]:
                yield self._next_stage()
            begin = time.perf_counter()
            loss, grad_norm = self.update(history.step)
            self._pace.took(taken := time.perf_counter() - begin)
            self.processes.stepped(taken)
            history.take(loss)
            self.average.take(history.stage_step)
            history.seconds = time.perf_counter() - started
            budget.stepped()
            steps, reason = agreed(self.processes, budget.correction(self.config, history), stop())
            if steps:
                yield self._corrected(steps)
            yield from self._noted()
            yield from between()
            config = self.config  # of this step, to its end
            last = history.step == config.steps
            if last or reason or history.step % config.log_every == 0:
                yield self._progress(grad_norm)
            best, evaluated = False, None
            ends = history.stage_step >= current_course(self.config, history)[-1][1]
            if last or ends or history.step % config.validation_interval == 0:
                self.show()
                evaluated = self._evaluate()
                best = evaluated.best
                yield evaluated
                yield from self._judged(evaluated)
                if is_hopeless(history, config, evaluated):
                    reason = reason or NO_LONGER_IMPROVES
                budget.validated()
            last = last or reason is not None
            keep = config.keep_every > 0 and history.step % config.keep_every == 0
            due = last or best or keep or history.step % config.save_every == 0
            # What follows smaller micro-batches can be repeated.
            due = due or self.config.accumulation != parts
            if due:
                parts = self.config.accumulation
                self.show()
                with self.processes.patiently():
                    self._check_weights()
                    self._gather()
                history.seconds = time.perf_counter() - started
                yield CheckpointDue(step=history.step, best=best, last=last, keep=keep)
                budget.saved(kept=keep)
            if due or evaluated:
                take_over(self.processes, history)
        yield Finished(
            step=history.step,
            reason=reason or "done",
            seconds=time.perf_counter() - started,
            best_step=history.best_step,
            best_bits_per_byte=history.best_bits_per_byte,
            refused=history.refused,
        )

    def show(self) -> None:
        """Put into the model what the run delivers; the next step hides it again."""
        self.average.show(self._temperature())

    def _temperature(self) -> float:
        """Return by what to divide the logits of what has been trained so far."""
        if self.config.init_from:
            return 1.0
        passes = self.history.stage_step * self.tokens_per_step / len(self.dataset.train)
        return temperature(passes)

    def delivered(self) -> GPT:
        """Return the model that is validated and saved: all that have been trained, as one.

        A sharded one is whole only in the first process, from when it is to be saved until the next step.
        """
        return self._gathered.model if self._gathered else self._members.together()

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs beside `delivered`, so that training goes on from it exactly."""
        if self._gathered:
            return self._gathered.state
        parts = {WEIGHTS: self.average.state(), MEMBERS: self._members.state()}
        beside = {f"{part}{name}": value for part, each in parts.items() for name, value in each.items()}
        return self.optimizer.state() | beside

    def _gather(self) -> None:
        """Let the first process know all that is to be saved."""
        self.optimizer.gather()
        self._gathered = self._parallel.gather(self.state())

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or ValueError when it is of another model."""
        stage, tensors = self.history.stage, self._parallel.part_of(tensors)
        self.optimizer.load_state(tensors)
        for number in range(stage):
            self._members.add(under(f"{MEMBERS}{number}.", tensors))
        if stage:
            fill(self.model, under(f"{MEMBERS}{stage}.", tensors))
        self.average.load_state(under(WEIGHTS, tensors))

    def _next_stage(self) -> Noted:
        """Keep the average as a member, and begin with the next model."""
        history, members = self.history, self.config.members
        self.show()
        self._members.add(dict(self.model.named_parameters()))
        history.begin_stage()
        fresh = GPT(self.model.config)
        self._fresh_weights.draw(fresh, self.config.seed, history.stage)
        own = {name: value for name, value in fresh.state_dict().items() if not is_shared(name)}
        self.model.load_state_dict(own, strict=False)  # what all models share stays
        self._begin_optimizing()
        said = f"model {history.stage} of {members} is trained; now model {history.stage + 1}"
        return Noted(step=history.step + 1, text=said)  # of the next step: a save may have been before it

    def update(self, step: int) -> tuple[float, float]:
        """Take one optimizer step; return the loss in nats per token and the norm of the gradient.

        A step whose loss or gradient is not finite, or whose gradient is far larger than any before, leaves
        the weights as they are.
        """
        config = self.config
        # The end of training is for the text as it will be seen in use.
        own = step - self.history.stage_first
        whole = own >= WHOLE_TOKENS_FROM * steps_at(current_course(config, self.history), own)
        split = 0.0 if whole else config.bpe_dropout
        x, y = self._batches.batch(step, split, self._rows if self.processes.count > 1 else None)
        ids, targets = self._to_device(x), self._to_device(y)
        total = self._within_memory(lambda: self._gradients(step, ids, targets))
        total, norm = self._parallel.add_up(total)
        loss_value, norm_value = total.item(), norm.item()
        if is_acceptable(self.history, config, loss_value, norm_value):
            if config.clip and norm_value > config.clip:
                clip_grads_with_norm_(self._parallel.parameters.values(), config.clip, norm)
            self.optimizer.step(self._lr_factor(step))
        return loss_value, norm_value

    def _gradients(self, step: int, x: Tensor, y: Tensor) -> Tensor:
        """Gather the gradients of this process's windows (B, T), and return their part of a step's loss."""
        if self._masks:
            self._masks.start(derive(self.config.seed, "dropout", step))
        self._parallel.forget_gradients()
        total = torch.zeros((), device=self.device)
        size = self.config.batch_size
        draws, shape = 1 + 2 * self.config.layers, (size, x.size(1), self.config.width)
        for number, rows, own in micro_batches(self._sequences, size, self._rows):
            if self._masks:
                self._masks.go_to(number, draws, shape, rows)
            weight = (own.stop - own.start) / self._sequences
            total += self.backend.accumulate_gradients(x[own], y[own], self._masks, weight)
        if self._parallel.sharded:  # the others have passes that they cannot take alone
            passes = passes_of(self._sequences, size, self.processes.count)
            for _ in range(max(passes) - passes[self.processes.rank]):
                self.backend.accumulate_gradients(x[:1], y[:1], None, 0.0)
        return total

    def _within_memory(self, action: Callable[[], Result]) -> Result:
        """Do this, with fewer sequences at once each time that memory runs out."""
        return within_memory(
            action, self._parallel, self._take_fewer_at_once, lambda: self.sequences_at_once == 1
        )

    def _take_fewer_at_once(self) -> None:
        count, sharded = self.processes.count, self._parallel.sharded
        self.config = with_fewer_at_once(self.config, count, sharded=sharded)
        self._masks = self._new_masks()  # what follows is what a resumed run would do
        self.notes.append(
            f"memory ran out: each step now takes {self.config.accumulation} micro-batches of "
            f"{self.config.batch_size} sequences; the effective batch stays the same"
        )

    def _started(self) -> Started:
        return Started(
            step=self.history.step,
            steps=self.config.steps,
            parameters=sum(p.numel() for p in self.model.parameters()),
            tokens_per_step=self.tokens_per_step,
            tokens_per_epoch=len(self.dataset.train),
            device=self.device.type,
            dtype=str(self.model.compute_dtype).removeprefix("torch."),
        )

    def _corrected(self, steps: int) -> Corrected:
        """Go on with another number of steps in all."""
        before, step = self.config.steps, self.history.step
        self.config = self.config.corrected(step, steps)
        return Corrected(step=step, steps=steps, before=before, seconds=self.history.seconds)

    def _noted(self) -> Iterator[Noted]:
        """Say what there is to say."""
        for note in self.notes:
            yield Noted(step=self.history.step, text=note)
        self.notes.clear()

    def validation_loss(self, tokens: np.ndarray) -> float:
        """Return the sum of nats over these tokens, each but the first predicted once.

        It takes about as many tokens at once as a step does, so that memory suffices for it as well.
        """
        backend = self.backend.beside(self.delivered()) if self._members else self.backend
        with self.processes.patiently():
            nats = self._within_memory(lambda: self._sum_of_losses(tokens, backend))
            return self.processes.total(torch.tensor(nats, dtype=torch.float64)).item()

    def _sum_of_losses(self, tokens: np.ndarray, backend: TrainingBackend) -> float:
        """Return the sum over the windows that this process takes: one batch of them, then the next one's."""
        total, processes = 0.0, self.processes
        length = read_in_a_row(self.model.config, self.config.context)
        windows = val_windows(tokens, length, max(1, self.sequences_at_once * self.config.context // length))
        while batches := list(islice(windows, processes.count)):
            has_one = processes.rank < len(batches)
            if has_one or self._parallel.sharded:  # the others cannot take theirs alone
                x, y = batches[processes.rank if has_one else 0]
                loss = backend.loss(self._to_device(x), self._to_device(y)).item()
                total += loss * y.size if has_one else 0.0
        return total

    def _evaluate(self) -> Evaluated:
        return evaluate(self.history, self.dataset, self.validation_loss(self.dataset.val))

    def _check_weights(self) -> None:
        """Raise DivergedError rather than let weights that are not finite be saved."""
        self._parallel.check_same()
        broken = (name for name, p in self._parallel.parameters.items() if not p.isfinite().all())
        if name := from_any(self.processes, next(broken, "")):
            raise DivergedError(
                f"training diverged: at step {self.history.step}, {name} is no longer finite",
                f"the checkpoints saved before are good; train again with {lower_rates(self.config)}",
            )

    def _judged(self, evaluated: Evaluated) -> Iterator[Noted]:
        """Say once what is wrong with how the model learns."""
        size = self.dataset.tokenizer.vocab_size
        note = useless(self.history, self.config, evaluated, size) or overfitting(self.history, evaluated)
        if note:
            yield Noted(step=self.history.step, text=note)

    def _progress(self, grad_norm: float) -> Progress:
        history = self.history
        progress = Progress(
            step=history.step,
            epoch=history.step * self.tokens_per_step / len(self.dataset.train),
            loss=history.progress_loss / history.progress_steps if history.progress_steps else math.nan,
            lr=self.config.lr * self._lr_factor(history.step - 1),
            grad_norm=grad_norm,
            tokens_per_second=self._pace.steps_per_second() * self.tokens_per_step,
            seconds=history.seconds,
            memory=peak_memory(self.device),
        )
        history.progress_loss, history.progress_steps = 0.0, 0
        return progress

    def extend(self, planned: Course) -> str:
        """Take the run, planned otherwise, on to its new last step; say how, in words."""
        return extend(self.config, self.history, planned)

    def _lr_factor(self, step: int) -> float:
        return factor_at(step, self.config, self.history)

    def _to_device(self, ids: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(ids)
        if self.device.type == "cuda":
            tensor = tensor.contiguous().pin_memory()  # only from there does a copy not hold up the CPU
        return tensor.to(self.device, non_blocking=True)


def _bpe_dropout(tokenizer: Tokenizer) -> BPEDropout | None:
    return BPEDropout(tokenizer.ranks, tokenizer.vocab_size) if tokenizer.ranks else None
