"""The weights that training begins with: random ones, and what counting neighbouring tokens tells.

The first steps of a fresh model go into which token follows which, and into which tokens are alike because
they have like neighbours. Both can be counted.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mygpt_cli.base.processes import Processes
from mygpt_cli.base.randomness import derive
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.induction import add_induction

# Chosen with trial versions; see "What a model begins with" in benchmarks/RESULTS.md.
NEAR = range(1, 9)  # how many tokens apart neighbours are
UNSEEN = 20.0  # neighbours added to those counted for each token, spread as tokens are in the text
STRENGTH = 6.0  # deviation of the second feature, where that of the random vectors is 1
TRUST = 0.15  # fraction of the logits that the counts alone would give
MOST_FEATURES = 128
WEAKEST = 0.02  # times the strength of the second feature; what is weaker may be rounding
MOST_TOKENS, PIECES = 400_000, 64  # so many are counted, in pieces from all over the text
MOST_KINDS = 4096  # of tokens, the most frequent; rarer ones begin at random
SURPLUS, ITERATIONS = 8, 3  # of the search for singular vectors


@dataclass(frozen=True)
class Neighbours:
    """Features of tokens (V, R), the strongest first, from which tokens stand near which others.

    Over the text each feature has a mean square of 1. `strengths` (R) are how much of the neighbours it
    tells, and `following` (V, R) how much more likely it makes each token as the next, in nats and up to a
    constant. Tokens that were not counted have zeros. `frequencies` (V) are how often each token occurs.
    """

    features: Tensor
    strengths: Tensor
    following: Tensor
    frequencies: Tensor


def count_neighbours(tokens: np.ndarray, vocab_size: int) -> Neighbours:
    """Find the features of tokens that tell most about their neighbours.

    They are singular vectors of the matrix of how much more often than by chance each token has each other
    just before or after it, and anywhere near, in the logarithm (as word vectors can be found: Levy and
    Goldberg, 2014, "Neural word embedding as implicit matrix factorization"). Found by subspace iteration.
    """
    counts = np.bincount(tokens, minlength=vocab_size) + 0.5
    kinds = np.argsort(-counts, kind="stable")[:MOST_KINDS]
    places = np.full(vocab_size, -1)
    places[kinds] = np.arange(len(kinds))
    shares = torch.from_numpy(counts[kinds] / counts.sum()).float()
    following, near = (
        _more_than_by_chance(places[tokens], shares, distances) for distances in (range(1, 2), NEAR)
    )

    def common(vectors: Tensor) -> Tensor:
        """Multiply by how much tokens have in common."""
        found = torch.zeros_like(vectors)
        for matrix in (following, near):
            found += matrix @ (matrix.T @ vectors) + matrix.T @ (matrix @ vectors)
        return found

    size = min(len(kinds), MOST_FEATURES + SURPLUS)
    vectors = torch.randn(len(kinds), size, generator=torch.Generator().manual_seed(0))
    for _ in range(ITERATIONS):
        vectors = torch.linalg.qr(common(vectors)).Q
    squares, turns = torch.linalg.eigh(vectors.T @ common(vectors))  # the smallest first
    vectors = (vectors @ turns).flip(1)[:, :MOST_FEATURES]
    parts = torch.zeros(2, vocab_size, vectors.size(1))
    parts[:, torch.from_numpy(kinds)] = torch.stack([vectors, following.T @ vectors]) / shares.sqrt()[:, None]
    strengths = squares.flip(0)[:MOST_FEATURES].clamp(min=1e-12).sqrt()
    frequencies = torch.from_numpy((counts - 0.5) / max(1, len(tokens))).float()
    return Neighbours(parts[0], strengths, parts[1], frequencies)


def _more_than_by_chance(places: np.ndarray, shares: Tensor, distances: range) -> Tensor:
    """Return how much more often than by chance a token has another behind it (N, N), at these distances.

    In nats, weighted by how often both occur.
    """
    size = len(shares)
    pairs = [(places[:-distance], places[distance:]) for distance in distances if distance < len(places)]
    keys = [(one * size + other)[(one >= 0) & (other >= 0)] for one, other in pairs]
    counted = np.bincount(np.concatenate([np.empty(0, np.int64), *keys]), minlength=size**2)
    more, roots = torch.from_numpy(counted).float().view(size, size), shares.sqrt()
    return more.div_(UNSEEN * shares).log1p_().mul_(roots[:, None]).mul_(roots)


class FreshWeights:
    """Draws the weights of the models of a run, which all begin with what the same neighbours say."""

    def __init__(self, dataset: Dataset, processes: Processes) -> None:
        self._dataset, self._processes = dataset, processes
        self._counted: Neighbours | None = None

    @torch.no_grad()
    def draw(self, model: GPT, seed: int, stage: int = 0) -> None:
        """Fill a model, on the CPU, for a stage of a run with this seed.

        A model whose embedding is its head as well gets random weights alone.
        """
        path = ("weights", stage) if stage else ("weights",)
        model.initialise(torch.Generator().manual_seed(derive(seed, *path)))
        if model.head is None:
            return
        known, width = self.count(), model.config.width
        relative = known.strengths / known.strengths[:2].min()
        count = min(width, int((relative >= WEAKEST).sum()))
        scales = STRENGTH * relative[:count]
        model.embedding[:, :count] += known.features[:, :count] * scales
        model.embedding.div_(model.embedding.square().mean(dim=1, keepdim=True).sqrt())
        # Of a typical vector, before it was divided.
        norm = math.sqrt(1.0 + scales.square().sum().item() / width)
        model.head.weight[:, :count] += TRUST * norm * known.following[:, :count] / scales
        with self._processes.patiently():
            add_induction(model, known.frequencies, self._agreed)

    def count(self) -> Neighbours:
        """Return what neighbours say, which the first process counts for all when this is first called."""
        if self._counted is None:
            size, tokens = self._dataset.tokenizer.vocab_size, self._dataset.train
            nothing = torch.zeros(size, min(size, MOST_FEATURES))
            own = Neighbours(nothing, nothing[0], nothing, torch.zeros(size))
            if len(tokens) > MOST_TOKENS:
                each = MOST_TOKENS // PIECES
                starts = np.linspace(0, len(tokens) - each, PIECES).astype(np.int64)
                tokens = np.concatenate([tokens[start : start + each] for start in starts])
            with self._processes.patiently():
                if self._processes.first:
                    own = count_neighbours(tokens, size)
                self._counted = Neighbours(*map(self._agreed, vars(own).values()))
        return self._counted

    def _agreed(self, own: Tensor) -> Tensor:
        """Return what the first process has in place of a tensor."""
        first: Tensor = self._processes.gather(own)[0]
        return first
