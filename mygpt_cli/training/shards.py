"""A model that no process has whole: each keeps an Nth of the rows of every tensor.

That goes for weights, gradients, the optimizer's state and the average of the weights; optimizer and average
work on these rows as they do on whole tensors. torch's FSDP puts a block together while it computes, and adds
up gradients into the rows (Zhao et al., 2023, arXiv:2304.11277; the third stage of ZeRO, Rajbhandari et al.,
2020, arXiv:1910.02054).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mygpt_cli.backends.interfaces import MuonStep
from mygpt_cli.base.processes import Processes
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.optimizer import Muon, Optimizer, orthogonalise
from mygpt_cli.training.parallel import Copies, Gathered
from mygpt_cli.training.processes import check_connection
from mygpt_cli.training.sharing import Outcome, outcome_of


def rows_of(process: int, count: int, rows: int) -> slice:
    """Return which of so many rows a process keeps; as FSDP cuts them, the last ones may have fewer."""
    each = -(-rows // count)
    return slice(min(rows, process * each), min(rows, (process + 1) * each))


class Shards(Copies):
    """Shards a model in place, on a mesh of all processes' devices; `parameters` are this one's rows."""

    sharded = True

    def __init__(self, model: GPT, mesh: DeviceMesh, processes: Processes) -> None:
        # The root's few parameters stay in float32: the gradient of an embedding sums up over many tokens.
        mixed = None if model.compute_dtype == torch.float32 else model.compute_dtype
        policy = MixedPrecisionPolicy(
            param_dtype=mixed, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        # Nothing may stay whole between passes, or it would miss what the optimizer does to the rows.
        units = [
            fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
            for block in model.blocks
        ]
        units.append(fully_shard(model, mesh=mesh, reshard_after_forward=True))
        for unit in units:
            # Each process has scaled its own by its part of the step; and gloo knows no means.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
            # torch 2.9 moves rows that need filling up to other memory when it first uses them.
            unit.unshard()
            unit.reshard()
        super().__init__(model, processes)
        self.parameters = {name: _rows(p) for name, p in model.named_parameters()}

    def optimizer(self, config: TrainConfig, muon_step: MuonStep | None) -> Optimizer:
        """Return an optimizer of this process's rows."""
        return Optimizer(self.model, config, None, self.processes, self.parameters, ShardedMuon)

    def forget_gradients(self) -> None:
        """Begin a step."""
        super().forget_gradients()
        for rows in self.parameters.values():
            rows.grad = None

    def add_up(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the losses; return the loss and the gradient's norm, whose gradients the passes added up."""
        for name, parameter in self.model.named_parameters():
            assert parameter.grad is not None  # noqa: S101 - each has one in every pass
            self.parameters[name].grad = _rows(parameter.grad)
        norm = get_total_norm([rows.grad for rows in self.parameters.values() if rows.grad is not None])
        total, squared = self.processes.total(torch.stack([loss, norm.square()]))
        return total, squared.sqrt()

    def outcome(self, fault: Exception | None) -> Outcome:
        """Return how passes ended here; where one fails, the others wait in it and cannot be asked."""
        if fault:
            check_connection(fault)
        return outcome_of(fault)

    def check_same(self) -> None:
        """Nothing is there twice."""

    def gather(self, state: Mapping[str, Tensor]) -> Gathered | None:
        """Put together the model and a state in the first process, in the CPU's memory."""
        weights, whole = self._whole(self.parameters), self._whole(state)
        if not self.processes.first:
            return None
        model = GPT(self.model.config).requires_grad_(False)
        model.compute_dtype = self.model.compute_dtype
        for name, parameter in model.named_parameters():
            parameter.data = weights[name]
        return Gathered(model, whole)

    def part_of(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return this process's rows of a whole state."""
        own, count = self.processes.rank, self.processes.count
        return {
            name: tensor[rows_of(own, count, tensor.size(0))] if tensor.ndim else tensor
            for name, tensor in tensors.items()
        }

    def _whole(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return, in the first process, tensors of which each has some rows; nothing in the others."""
        heights = torch.tensor([part.size(0) if part.ndim else 0 for part in parts.values()])
        of_all = torch.stack(self.processes.gather(heights)).T.tolist()
        whole = {}
        for (name, part), rows in zip(parts.items(), of_all, strict=True):
            if not part.ndim:  # all have the same
                whole[name] = part.cpu()
                continue
            padded = part.new_zeros(max(rows), *part.shape[1:])
            padded[: part.size(0)] = part
            gathered = self.processes.gather(padded)
            if self.processes.first:
                whole[name] = torch.cat([some[:n].cpu() for some, n in zip(gathered, rows, strict=True)])
        return whole if self.processes.first else {}


def _rows(tensor: Tensor) -> Tensor:
    """Return what this process has of a sharded tensor, in the same memory."""
    return cast(DTensor, tensor.detach()).to_local()


class ShardedMuon(Muon):
    """Muon where each process has some rows of every matrix, of its momentum and of its mean squares.

    Only to be made orthogonal is a matrix put together, in one process, and its rows go back to all.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        config: ModelConfig,
        dtype: torch.dtype,
        processes: Processes,
        shapes: Mapping[str, Sequence[int]],
    ) -> None:
        super().__init__(parameters, config, dtype, processes, shapes)
        pieces = [piece for share in self._shares for piece in share]  # by the process that makes them whole
        ends = list(accumulate(map(len, self._shares), initial=0))
        self._whose = [slice(first, last) for first, last in pairwise(ends)]  # of the pieces, by that process
        self._shapes = [(part.stop - part.start, shapes[name][1]) for name, part in pieces]
        count = processes.count
        held = [  # by process, the rows that it has of each piece, counted from its first of the parameter
            [_overlap(part, rows_of(process, count, shapes[name][0])) for name, part in pieces]
            for process in range(count)
        ]
        self._held = [(name, rows) for (name, _), rows in zip(pieces, held[processes.rank], strict=True)]
        self._sizes = [
            [(rows.stop - rows.start) * width for rows, (_, width) in zip(each, self._shapes, strict=True)]
            for each in held
        ]

    def _step(self, lr: float, weight_decay: float) -> None:
        """Take the step of this process's rows."""
        gradients, momentum, squares, weights = map(list, zip(*map(self._parts, self._held), strict=True))
        torch._foreach_lerp_(momentum, gradients, 1.0 - self.MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momentum, self.MOMENTUM)  # Nesterov's look ahead
        steps = [rows.float() for rows in self._orthogonalised([rows.to(self._dtype) for rows in ahead])]
        torch._foreach_lerp_(squares, [rows.square().mean(dim=-1) for rows in steps], 1.0 - self.MOMENTUM)
        balanced = [
            rows / (square.sqrt() + 1e-8)[:, None] for rows, square in zip(steps, squares, strict=True)
        ]
        own = torch.stack([rows.square().sum() for rows in (*steps, *balanced)])
        before, after = self._processes.total(own).sqrt().chunk(2)  # the norms of whole matrices
        scales = (before / (after + 1e-8)).unbind()
        torch._foreach_mul_(weights, 1.0 - lr * weight_decay)
        for weight, rows, scale, (height, width) in zip(weights, balanced, scales, self._shapes, strict=True):
            weight.add_(rows * scale, alpha=-lr * math.sqrt(max(1.0, height / width)))

    def _exchange(self, tensors: Mapping[str, Tensor]) -> None:
        """Leave the rows where they are."""

    def _orthogonalised(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return these rows of all matrices as they are once each whole matrix is made orthogonal."""
        own, exchange = self._processes.rank, self._processes.exchange
        mine = self._whose[own]
        sizes = [each[mine] for each in self._sizes]  # what each process has of this one's matrices
        sent = [_flat(rows[theirs], rows[0]) for theirs in self._whose]
        received = map(torch.split, exchange(sent, list(map(sum, sizes))), sizes)
        matrices = [
            torch.cat(parts).view(shape) for *parts, shape in zip(*received, self._shapes[mine], strict=True)
        ]
        done = [
            torch.split(matrix.reshape(-1), list(parts))
            for matrix, *parts in zip(_orthogonalise_each(matrices), *sizes, strict=True)
        ]
        back = [_flat([parts[process] for parts in done], rows[0]) for process in range(len(sizes))]
        returned = torch.cat(exchange(back, [part.numel() for part in sent]))
        flat = torch.split(returned, self._sizes[own])
        return [part.view(-1, width) for part, (_, width) in zip(flat, self._shapes, strict=True)]


def _flat(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return all numbers of tensors like this one, of which there may be none."""
    return torch.cat([like.new_empty(0), *(tensor.reshape(-1) for tensor in tensors)])


def _overlap(piece: slice, held: slice) -> slice:
    """Return which rows of a piece are held, counted from the first held one."""
    first, last = (min(max(row, held.start), held.stop) - held.start for row in (piece.start, piece.stop))
    return slice(first, last)


def _orthogonalise_each(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Make each matrix orthogonal, those of one shape together."""
    done = list(matrices)
    for shape in {matrix.shape for matrix in matrices}:
        places = [place for place, matrix in enumerate(matrices) if matrix.shape == shape]
        together = orthogonalise(torch.stack([matrices[place] for place in places]))
        for place, matrix in zip(places, together, strict=True):
            done[place] = matrix
    return done
