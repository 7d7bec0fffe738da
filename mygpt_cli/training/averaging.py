"""The average of the weights over the last steps: what a run validates and delivers."""

from collections.abc import Mapping

import torch
from torch import Tensor


class WeightAverage:
    """An average of parameters over about the last `fraction` of the steps so far, recent ones counting more.

    After step t (from 1) the average moves towards the weights by 1 / (fraction · t) of the way, so that it
    grows with the run and knows nothing of its length (Karras et al., 2024, arXiv:2312.02696, section 3.1;
    the weight of a step is a power of its number). A fraction of 0 keeps none.

    `show` puts the average into the parameters, and `hide` the weights that are being trained; the one that
    is not in them is kept here.
    """

    def __init__(self, parameters: Mapping[str, Tensor], fraction: float) -> None:
        self._fraction = fraction
        self._parameters = dict(parameters) if fraction else {}
        self._other = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._shown = False

    @torch.no_grad()
    def take(self, step: int) -> None:
        """Let the average follow the weights after a step (from 1)."""
        if self._other:
            towards = min(1.0, 1.0 / (self._fraction * step))
            torch._foreach_lerp_(list(self._other.values()), list(self._parameters.values()), towards)

    def show(self) -> None:
        """Put the average into the parameters, unless it is there."""
        self._shown = self._shown or self._exchange()

    def hide(self) -> None:
        """Put the weights that are being trained into the parameters, unless they are there."""
        self._shown = self._shown and not self._exchange()

    @torch.no_grad()
    def _exchange(self) -> bool:
        for name, parameter in self._parameters.items():
            shown = parameter.detach().clone()
            parameter.copy_(self._other[name])
            self._other[name].copy_(shown)
        return True

    def state(self) -> dict[str, Tensor]:
        """Return the weights that are being trained, while the average is shown; nothing without one."""
        return dict(self._other) if self._shown else {}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from parameters that hold the average, and from what `state` returned beside it.

        KeyError or ValueError when it is of another model.
        """
        for name, other in self._other.items():
            if tensors[name].shape != other.shape:
                raise ValueError(f"weights.{name} has another shape than its parameter")
            other.copy_(self._parameters[name])
            self._parameters[name].copy_(tensors[name])
