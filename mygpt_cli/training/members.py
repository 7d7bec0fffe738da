"""The members of a run: models that are trained, and now teach the one that learns from them."""

from collections.abc import Mapping

from torch import Tensor

from mygpt_cli.backends.interfaces import TrainingBackend
from mygpt_cli.model.gpt import GPT


class Members:
    """Models of the same parts as the one that `backend` trains."""

    def __init__(self, backend: TrainingBackend) -> None:
        self._backend = backend
        self._members: list[TrainingBackend] = []

    def __len__(self) -> int:
        return len(self._members)

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take in a model with a copy of these weights; KeyError when some are missing."""
        like = self._backend.model
        model = GPT(like.config).requires_grad_(False)
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name].detach())
        model.compute_dtype = like.compute_dtype
        self._members.append(self._backend.beside(model.to(like.embedding.device)))

    def teach(self, ids: Tensor) -> Tensor | None:
        """Return the mean of what all predict (B, T, V) after each of ids (B, T); None without members."""
        if not self._members:
            return None
        total = self._members[0].probabilities(ids)
        for member in self._members[1:]:
            total += member.probabilities(ids)
        return total.div_(len(self))

    def state(self) -> dict[str, Tensor]:
        """Return the weights of all, named by their member's number and their own names."""
        return {
            f"{number}.{name}": parameter.detach()
            for number, member in enumerate(self._members)
            for name, parameter in member.model.named_parameters()
        }
