"""AdamW and Muon over the parameters of a GPT, with their state as named tensors."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from mygpt_cli.backends.interfaces import MuonStep
from mygpt_cli.base.processes import Processes
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.architectures import find
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.ensemble import is_shared
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.sharing import share_out

Piece = tuple[str, slice]  # rows of a parameter that are a matrix to Muon


class Optimizer:
    """Muon for the matrices inside the blocks (`--optimizer muon`) and AdamW for all other parameters.

    Weight decay acts on matrices only. Beside Muon, some parameters of models with an untied head learn at a
    multiple of AdamW's rate, as the architecture has it. `muon_step` is a faster way to take Muon's step,
    whose matrices are shared out among the `processes`; until `gather`, each knows only its own momentum.
    What several members are to share is not trained.

    Where a model is sharded, `rows` are those that this process has of each parameter, and `muon` takes them.
    """

    def __init__(
        self,
        model: GPT,
        config: TrainConfig,
        muon_step: MuonStep | None = None,
        processes: Processes | None = None,
        rows: Mapping[str, Tensor] | None = None,
        muon: "Callable[..., Muon] | None" = None,
    ) -> None:
        shapes = {name: p.shape for name, p in model.named_parameters()}
        named = {
            name: p
            for name, p in (rows or dict(model.named_parameters())).items()
            if config.members == 1 or not is_shared(name)
        }
        inside = {
            name: p
            for name, p in named.items()
            if config.optimizer == "muon" and name.startswith("blocks.") and p.ndim == 2
        }
        rest = {name: p for name, p in named.items() if name not in inside}
        # An embedding that is the head as well moves in every step, and learns like the rest.
        rates = find(model.config.arch).rates if inside and not model.config.tied else {}
        self._adamw = AdamW(rest, config.beta1, config.beta2, rates)
        made = model.config, model.compute_dtype, processes, {name: shapes[name] for name in inside}
        self._muon = (muon or Muon)(inside, *made) if inside else None
        self._config, self._muon_step = config, muon_step

    def step(self, lr_factor: float) -> None:
        """Update the parameters from their gradients, at the peak learning rates times a factor."""
        config = self._config
        self._adamw.step(config.lr * lr_factor, config.weight_decay)
        if self._muon:
            self._muon.step(config.muon_lr * lr_factor, config.weight_decay, self._muon_step)

    def gather(self) -> None:
        """Let every process know all of the state."""
        if self._muon:
            self._muon.gather()

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, as named tensors."""
        tensors = {f"adamw.{name}": value for name, value in self._adamw.state().items()}
        if self._muon:
            tensors |= {f"muon.{name}": value for name, value in self._muon.state().items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or ValueError when it is of another model."""
        self._adamw.load_state(under("adamw.", tensors))
        if self._muon:
            self._muon.load_state(under("muon.", tensors))


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin like this, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class AdamW:
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019, arXiv:1711.05101).

    torch's own update of all parameters at once; its optimizer class would load torch's compiler, a second.
    `rates` names parameters with a learning rate of their own, as a multiple; they decay like the others.
    """

    EPS = 1e-8

    def __init__(
        self, parameters: Mapping[str, Tensor], beta1: float, beta2: float, rates: Mapping[str, float]
    ) -> None:
        self._parameters = dict(parameters)
        self._betas = beta1, beta2
        self._groups: dict[tuple[bool, float], list[str]] = {}  # by whether they decay, and their rate
        for name, p in parameters.items():
            self._groups.setdefault((p.ndim >= 2, rates.get(name, 1.0)), []).append(name)
        self._state = {
            name: {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(p, requires_grad=False),
            }
            for name, p in parameters.items()
        }

    def state(self) -> dict[str, Tensor]:
        """Return the number of steps and both moments of each parameter."""
        parts = self._state.items()
        return {f"{name}.{part}": value for name, of_one in parts for part, value in of_one.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or ValueError when it is of another model."""
        for name, parts in self._state.items():
            for part, buffer in parts.items():
                value = tensors[f"{name}.{part}"]
                if value.shape != buffer.shape:
                    raise ValueError(f"adamw.{name}.{part} has another shape than its parameter")
                buffer.copy_(value)

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float) -> None:
        """Update all parameters from their gradients; only matrices decay."""
        for (decays, rate), names in self._groups.items():
            parameters = [self._parameters[name] for name in names]
            adamw(
                parameters,
                [p.grad for p in parameters if p.grad is not None],
                [self._state[name]["exp_avg"] for name in names],
                [self._state[name]["exp_avg_sq"] for name in names],
                [],
                [self._state[name]["step"] for name in names],
                fused=True,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=lr * rate,
                weight_decay=weight_decay / rate if decays else 0.0,
                eps=self.EPS,
                maximize=False,
            )


class Muon:
    """Momentum made orthogonal (Jordan et al., 2024, kellerjordan.github.io/posts/muon), matrix by matrix.

    Each row is then divided by the root of what its mean square has been, and the whole brought back to its
    norm (NorMuon: Li et al., 2025, arXiv:2510.05491), so that all rows learn alike.
    Query, key and value, kept in one tensor, are three matrices to it. Matrices of one shape go through the
    iteration together. `dtype` is the type of that iteration.

    Each of several processes takes the step of some matrices, and gets those of the others from them.
    `shapes` are those of the whole parameters.
    """

    MOMENTUM = 0.95

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        config: ModelConfig,
        dtype: torch.dtype,
        processes: Processes | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._processes = processes or Processes()
        self._parameters = dict(parameters)
        self._momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._squares = {name: torch.zeros_like(p[:, 0]) for name, p in parameters.items()}
        self._dtype = dtype
        inner, kv = (heads * config.head_width for heads in (config.heads, config.kv_heads))
        whole = shapes or {name: p.shape for name, p in parameters.items()}
        pieces: list[Piece] = []
        for name, (height, _) in whole.items():
            cuts = (0, inner, inner + kv, inner + 2 * kv) if "qkv" in name else (0, height)
            pieces += [(name, slice(first, last)) for first, last in pairwise(cuts)]
        sizes = [(part.stop - part.start, whole[name][1]) for name, part in pieces]
        work = [rows * columns * min(rows, columns) for rows, columns in sizes]
        owners = share_out(work, self._processes.count)
        self._shares: list[list[Piece]] = [[] for _ in range(self._processes.count)]  # by process
        self._groups: dict[tuple[int, ...], list[Piece]] = {}  # this one's matrices by their shape
        for piece, size, owner in zip(pieces, sizes, owners, strict=True):
            self._shares[owner].append(piece)
            if owner == self._processes.rank:
                self._groups.setdefault(size, []).append(piece)

    def state(self) -> dict[str, Tensor]:
        """Return the momentum of each parameter, and the mean squares of its rows."""
        return self._momentum | {f"rows.{name}": squares for name, squares in self._squares.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or ValueError when it is of another model."""
        for name, buffer in self.state().items():
            if tensors[name].shape != buffer.shape:
                raise ValueError(f"muon.{name} has another shape than its parameter")
            buffer.copy_(tensors[name])

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float, faster: MuonStep | None = None) -> None:
        """Update all parameters from their gradients, or leave that to a faster way."""
        if not faster:
            self._step(lr, weight_decay)
        elif self._groups:  # there may be more processes than matrices
            faster(self._matrices(), self.MOMENTUM, lr, weight_decay)
        self._exchange(self._parameters)

    def _step(self, lr: float, weight_decay: float) -> None:
        """Take the step of this process's matrices, those of one shape together."""
        for (rows, columns), pieces in self._groups.items():
            gradients, momentum, squares, weights = map(list, zip(*map(self._parts, pieces), strict=True))
            torch._foreach_lerp_(momentum, gradients, 1.0 - self.MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momentum, self.MOMENTUM)  # Nesterov's look ahead
            together = torch.stack(list(ahead))  # (N, rows, columns)
            balanced = self._balance(orthogonalise(together.to(self._dtype)).float(), squares)
            torch._foreach_mul_(weights, 1.0 - lr * weight_decay)
            torch._foreach_add_(weights, balanced.unbind(), alpha=-lr * math.sqrt(max(1.0, rows / columns)))

    def gather(self) -> None:
        """Let every process know the state of all matrices."""
        self._exchange(self._momentum)
        self._exchange(self._squares)

    @torch.no_grad()
    def _exchange(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the pieces of other processes by what these have in their place."""
        if self._processes.count == 1:
            return
        shares = [[tensors[name][part] for name, part in share] for share in self._shares]
        sizes = [[piece.numel() for piece in share] for share in shares]
        flat = next(iter(tensors.values())).new_zeros(max(map(sum, sizes)))
        own = shares[self._processes.rank]
        if own:
            flat[: sum(map(Tensor.numel, own))] = torch.cat([piece.reshape(-1) for piece in own])
        for share, size, sent in zip(shares, sizes, self._processes.gather(flat), strict=True):
            for piece, values in zip(share, torch.split(sent[: sum(size)], size), strict=True):
                if share is not own:
                    piece.copy_(values.view_as(piece))

    def _balance(self, steps: Tensor, squares: list[Tensor]) -> Tensor:
        """Scale the rows of steps (N, rows, columns) by what their `squares` were, which take them in."""
        torch._foreach_lerp_(squares, steps.square().mean(dim=-1).unbind(), 1.0 - self.MOMENTUM)
        balanced = steps / (torch.stack(squares).sqrt() + 1e-8)[..., None]
        before, after = (x.norm(dim=(-2, -1), keepdim=True) for x in (steps, balanced))
        scaled: Tensor = balanced * (before / (after + 1e-8))
        return scaled

    def _matrices(self) -> Iterator[tuple[Tensor, ...]]:
        """List the matrices, the largest first, as `muon.h` does."""
        for _, pieces in sorted(self._groups.items(), reverse=True):
            yield from map(self._parts, pieces)

    def _parts(self, piece: Piece) -> tuple[Tensor, ...]:
        """Return a matrix's gradient, its momentum, the mean squares of its rows, and its weights."""
        name, part = piece
        parameter = self._parameters[name]
        assert parameter.grad is not None  # noqa: S101 - a step comes after a backward pass
        return parameter.grad[part], self._momentum[name][part], self._squares[name][part], parameter[part]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix of (N, A, B) near 1, by five Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices.mT if matrices.size(-2) > matrices.size(-1) else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        x = factor @ x
    return x.mT if matrices.size(-2) > matrices.size(-1) else x
