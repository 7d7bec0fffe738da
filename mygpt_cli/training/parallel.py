"""How several processes hold the model that they train: here each has a copy, in `shards.py` a part."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.utils import get_total_norm

from mygpt_cli.backends.interfaces import MuonStep
from mygpt_cli.base.processes import Processes
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.optimizer import Optimizer
from mygpt_cli.training.sharing import Outcome, add_up, agreed_norm, check_same_weights, worst_outcome


@dataclass(frozen=True)
class Gathered:
    """A model, and what a checkpoint has beside it, put together in one process to be saved."""

    model: GPT
    state: dict[str, Tensor]


class Copies:
    """Each process has the whole model, or is the only one.

    `parameters` are the tensors that this process updates, by the names that they have in the model; an
    optimizer takes them with their gradients. Where the model is `sharded`, no process can compute without
    the others: all take equally many forward passes, and one that fails cannot be tried again.
    """

    sharded = False

    def __init__(self, model: GPT, processes: Processes) -> None:
        self.model, self.processes = model, processes
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())

    def optimizer(self, config: TrainConfig, muon_step: MuonStep | None) -> Optimizer:
        """Return an optimizer of the parameters, with a state like theirs."""
        return Optimizer(self.model, config, muon_step, self.processes)

    def forget_gradients(self) -> None:
        """Begin a step, or begin it again."""
        for parameter in self.model.parameters():
            parameter.grad = None

    def add_up(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the gradients and the losses of all processes; return the loss and the gradient's norm."""
        parameters = list(self.parameters.values())
        total = add_up(self.processes, parameters, loss)
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        return total, agreed_norm(self.processes, norm)

    def outcome(self, fault: Exception | None) -> Outcome:
        """Return how passes ended in the process where they ended worst; this one had this `fault`."""
        return worst_outcome(self.processes, fault)

    def check_same(self) -> None:
        """Raise MygptError unless all processes have the same weights, bit for bit."""
        check_same_weights(self.processes, list(self.parameters.values()))

    def gather(self, state: Mapping[str, Tensor]) -> Gathered | None:
        """Put together, in the first process, what each has only a part of; None where it has all."""
        return None

    def part_of(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what this process has of a whole state."""
        return tensors
