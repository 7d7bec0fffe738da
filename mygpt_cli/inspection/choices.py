"""What each step of generation was chosen from, in enough detail to choose again with other settings.

Of a small vocabulary, all logits are kept; of a large one the best, and of all others together what the same
computation needs. What shapes a draw (temperature, top-k, top-p, min-p, typical-p) can then be redone; what
comes before it in the chain stays as it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mygpt_cli.config.sampling import DRAWING, Sampling
from mygpt_cli.generation.logits import greedy, logits_to_probs, temperature
from mygpt_cli.generation.sampler import Step, choose

FULL = 2048  # tokens: of vocabularies up to this size, everything is kept
BEST = 400  # tokens that are kept of larger ones
MOST_LOGITS = 400_000  # over all steps
DRAWN = 30  # tokens whose intervals are kept, where not all logits are
STEP = 0.05  # between the temperatures that can be chosen, from 0 to 2


@dataclass(frozen=True)
class Rest:
    """All tokens whose logits are not kept: how many, and what they have in common.

    `ranks` are those of the kept tokens among all, from 1, by the model's logits.
    `own` and `stages` are the logsumexp of the model's logits and of those after each filter, `alive` how
    many those filters left and `best` the highest of their logits. For each temperature, `sums` has the
    logsumexp of what is left, and `picks` the token, of all, on which the draw falls when nothing else
    shapes it.
    `line` are the intervals (id, low, high) of the best tokens in the recorded choice.
    """

    ranks: tuple[int, ...]
    count: int
    alive: int
    best: float
    own: float
    stages: tuple[float, ...]
    sums: tuple[float, ...]
    picks: tuple[int, ...]
    line: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Choices:
    """One step: the kept tokens by id, the model's logits for them, and those after each filter, by name.

    Only filters before those that shape the draw count. `rest` is None where all tokens are kept.
    """

    picked: int
    draw: float
    ids: tuple[int, ...]
    logits: tuple[float, ...]
    stages: tuple[tuple[str, tuple[float, ...]], ...]
    rest: Rest | None


class ChoiceRecorder:
    """Keeps the choices of the steps that it is shown, up to a bound.

    `degrees` are the temperatures that can be chosen: those of a grid, that of the sampling, and `more`.
    """

    def __init__(self, sampling: Sampling, vocab_size: int, more: Iterable[float] = ()) -> None:
        self.sampling, self.choices = sampling, list[Choices]()
        self.steps = 0
        small = vocab_size <= BEST or vocab_size * sampling.max_new_tokens <= MOST_LOGITS
        self.kept = vocab_size if vocab_size <= FULL and small else BEST
        grid = {round(STEP * i, 2) for i in range(round(2 / STEP) + 1)}
        self.degrees = sorted(grid | {sampling.temperature, *more})

    @property
    def early(self) -> list[str]:
        """The names of the filters that stay as they were."""
        return [name for name in _names(self.sampling) if name not in DRAWING]

    def record(self, step: Step) -> None:
        """Keep what there is to know of a step."""
        self.steps += 1
        if (len(self.choices) + 1) * self.kept > MOST_LOGITS:
            return
        own, picked = step.logits[0], int(step.choice.ids[0])
        early = [(name, logits[0]) for name, logits in step.stages if name in self.early]
        left = early[-1][1] if early else own
        ids, some = torch.arange(len(own)), len(own) > self.kept
        if some:
            best = [logits.sort(descending=True, stable=True).indices for logits in (left, own)]
            found = {*best[0][: self.kept].tolist(), *best[1][:DRAWN].tolist(), picked}
            ids = torch.tensor(sorted(found))
        self.choices.append(
            Choices(
                picked=picked,
                draw=float(step.choice.draws[0]),
                ids=tuple(ids.tolist()),
                logits=tuple(own[ids].tolist()),
                stages=tuple((name, tuple(logits[ids].tolist())) for name, logits in early),
                rest=self._rest(step, own, [logits for _, logits in early], ids) if some else None,
            )
        )

    def _rest(self, step: Step, own: Tensor, early: list[Tensor], ids: Tensor) -> Rest:
        others = torch.ones_like(own, dtype=torch.bool).index_fill(0, ids, False)
        left = early[-1] if early else own
        each = [greedy(left) if degree == 0 else temperature(left, degree) for degree in self.degrees]
        ends, order = step.choice.ends[0], own.sort(descending=True, stable=True).indices
        ranks = torch.empty_like(order).scatter(0, order, torch.arange(1, len(order) + 1))
        best = sorted({*left.topk(DRAWN).indices.tolist(), int(step.choice.ids[0])})
        return Rest(
            ranks=tuple(ranks[ids].tolist()),
            count=int(others.sum()),
            alive=int(left[others].isfinite().sum()),
            best=float(left[others].max()),
            own=float(own[others].logsumexp(0)),
            stages=tuple(float(logits[others].logsumexp(0)) for logits in early),
            sums=tuple(float(logits[others].logsumexp(0)) for logits in each),
            picks=tuple(int(choose(logits_to_probs(row[None]), step.choice.draws).ids[0]) for row in each),
            line=tuple((at, float(ends[at - 1]) if at else 0.0, float(ends[at])) for at in best),
        )


def can_redo(sampling: Sampling) -> bool:
    """Tell whether all filters that shape a draw come after all others, so that they alone can be redone."""
    late = [name in DRAWING for name in _names(sampling)]
    return late == sorted(late)


def _names(sampling: Sampling) -> list[str]:
    """Return the filters that act, also those that greedy choice would make pointless."""
    return replace(sampling, temperature=sampling.temperature or 1.0).active
