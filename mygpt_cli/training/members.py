"""The members of a run: models that were trained before, and that are delivered with the one in training."""

from collections.abc import Mapping

from torch import Tensor

from mygpt_cli.model.ensemble import join
from mygpt_cli.model.gpt import GPT


class Members:
    """Models of the same shape as `model`, which is being trained."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self._members: list[GPT] = []

    def __len__(self) -> int:
        return len(self._members)

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take in a model with a copy of these weights; KeyError or ValueError when they do not fit."""
        member = GPT(self._model.config).to(self._model.embedding.device).requires_grad_(False)
        fill(member, weights)
        member.compute_dtype = self._model.compute_dtype
        self._members.append(member)

    def together(self) -> GPT:
        """Return all of them and the one in training as one model, which without members is that one."""
        return join([*self._members, self._model]) if self._members else self._model

    def state(self) -> dict[str, Tensor]:
        """Return the weights of all, named by their number and their own names; nothing without members."""
        models = [*self._members, self._model] if self._members else []
        return {
            f"{number}.{name}": parameter.detach()
            for number, model in enumerate(models)
            for name, parameter in model.named_parameters()
        }


def fill(model: GPT, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model; KeyError or ValueError when they do not fit."""
    for name, parameter in model.named_parameters():
        if weights[name].shape != parameter.shape:
            raise ValueError(f"{name} of a member has another shape than the model's")
        parameter.data.copy_(weights[name])
