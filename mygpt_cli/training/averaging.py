"""The average of the weights over the last steps: what a run validates and delivers."""

from collections.abc import Mapping

import torch
from torch import Tensor

LAST_NORM = ("norm.weight", "norm.bias")  # dividing both divides the logits
UNSCALED = "unscaled."  # before their names, where a state has them


class WeightAverage:
    """An average of parameters over about the last `fraction` of the steps so far, recent ones counting more.

    After step t (from 1) the average moves towards the weights by 1 / (fraction · t) of the way, so that it
    grows with the run and knows nothing of its length (Karras et al., 2024, arXiv:2312.02696, section 3.1;
    the weight of a step is a power of its number). A fraction of 0 keeps none.

    `show` puts the average into the parameters, and `hide` the weights that are being trained; the one that
    is not in them is kept here. Where it is shown, its logits may be divided by a temperature.
    """

    def __init__(self, parameters: Mapping[str, Tensor], fraction: float) -> None:
        self._fraction = fraction
        self._parameters = dict(parameters) if fraction else {}
        self._other = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._unscaled: dict[str, Tensor] = {}  # of the average, while it is shown
        self._shown = False

    @torch.no_grad()
    def take(self, step: int) -> None:
        """Let the average follow the weights after a step (from 1)."""
        if self._other:
            towards = min(1.0, 1.0 / (self._fraction * step))
            torch._foreach_lerp_(list(self._other.values()), list(self._parameters.values()), towards)

    @torch.no_grad()
    def show(self, temperature: float = 1.0) -> None:
        """Put the average into the parameters, unless it is there; a temperature divides its logits."""
        if not self._shown:
            self._exchange()
            for name in [name for name in LAST_NORM if name in self._parameters]:  # in one order everywhere
                self._unscaled[name] = self._parameters[name].detach().clone()
                self._parameters[name].div_(temperature)

    @torch.no_grad()
    def hide(self) -> None:
        """Put the weights that are being trained into the parameters, unless they are there."""
        if self._shown:
            for name, unscaled in self._unscaled.items():
                self._parameters[name].copy_(unscaled)
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            shown = parameter.detach().clone()
            parameter.copy_(self._other[name])
            self._other[name].copy_(shown)
        self._shown = not self._shown

    def state(self) -> dict[str, Tensor]:
        """Return the weights in training and the average's own last norm, while it is shown; or nothing."""
        if not self._shown:
            return {}
        return self._other | {f"{UNSCALED}{name}": tensor for name, tensor in self._unscaled.items()}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from parameters that hold the average as it is shown, and from what `state` returned with it.

        KeyError or ValueError when it is of another model.
        """
        scaled = any(name.startswith(UNSCALED) for name in tensors)  # which earlier versions did not
        for name, other in self._other.items():
            unscaled = scaled and name in LAST_NORM
            average = tensors[f"{UNSCALED}{name}"] if unscaled else self._parameters[name]
            if not tensors[name].shape == average.shape == other.shape:
                raise ValueError(f"weights.{name} has another shape than its parameter")
            other.copy_(average)
            self._parameters[name].copy_(tensors[name])
