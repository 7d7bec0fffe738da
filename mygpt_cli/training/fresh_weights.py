"""The weights that training begins with: drawn from the seed, and what is known by counting neighbours.

The first steps of a fresh model go into which token follows which, and into which tokens are alike because
they have like neighbours. Both can be counted.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mygpt_cli.base.processes import Processes
from mygpt_cli.base.randomness import derive
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.dataset import Dataset

# Chosen with trial versions; see "What a model begins with" in benchmarks/RESULTS.md.
DISTANCES = (1, 2, 3, 4)  # between neighbours, in tokens
UNSEEN = 20.0  # pairs that each token is taken to have been followed by beyond those seen, as in any place
STRENGTH = 6.0  # deviation of the second feature, where that of the random vectors is 1
TRUST = 0.15  # times the logits that the counts alone would have
MOST_FEATURES = 128
MOST_TOKENS, PIECES = 1_000_000, 64  # so many are counted, in pieces from all over the text
SURPLUS, ITERATIONS = 8, 3  # of the search for eigenvectors


@dataclass(frozen=True)
class Neighbours:
    """Features of tokens (V, R), the strongest first, from which tokens stand near which others.

    Over the text each feature has a mean square of 1. `strengths` (R) are how much of the neighbours it
    tells, and `following` (V, R) how much more likely it makes each token as the next, in nats.
    """

    features: Tensor
    strengths: Tensor
    following: Tensor


def count_neighbours(tokens: np.ndarray, vocab_size: int) -> Neighbours:
    """Find the features of tokens that tell most about their neighbours.

    They are singular vectors of the matrix of how much more often than by chance each token has each other
    before or after it, in the logarithm (as word vectors can be found: Levy and Goldberg, 2014, "Neural word
    embedding as implicit matrix factorization"). Found by subspace iteration.
    """
    tokens = np.asarray(tokens).astype(np.int64)
    shares = torch.from_numpy(np.bincount(tokens, minlength=vocab_size) + 0.5).float()
    shares /= shares.sum()
    roots = shares.sqrt()[:, None]
    pairs = [_pairs(tokens, distance, shares) for distance in DISTANCES]
    both = [each for pair in pairs for each in (pair, pair.T.coalesce())]

    def times(vectors: Tensor) -> Tensor:
        products = [one @ (other @ vectors) for one, other in zip(both, _swapped(both), strict=True)]
        return torch.stack(products).sum(dim=0)

    count = min(vocab_size, MOST_FEATURES + SURPLUS)
    vectors = torch.randn(vocab_size, count, generator=torch.Generator().manual_seed(0))
    for _ in range(ITERATIONS):
        vectors = torch.linalg.qr(times(vectors)).Q
    values, turns = torch.linalg.eigh(vectors.T @ times(vectors))  # the smallest first
    vectors = (vectors @ turns).flip(1)[:, :MOST_FEATURES]
    strengths = values.flip(0)[:MOST_FEATURES].clamp(min=1e-12).sqrt()
    return Neighbours(vectors / roots, strengths, both[1] @ vectors / roots)


def _pairs(tokens: np.ndarray, distance: int, shares: Tensor) -> Tensor:
    """Return how much more often than by chance a token has another so far behind it (V, V), sparse.

    Each is weighted by how often both occur.
    """
    size = len(shares)
    keys, counts = np.unique(tokens[:-distance] * size + tokens[distance:], return_counts=True)
    first, second = torch.from_numpy(keys // size), torch.from_numpy(keys % size)
    more = torch.log1p(torch.from_numpy(counts).float() / (UNSEEN * shares[second]))
    weighted = more * (shares[first] * shares[second]).sqrt()
    return torch.sparse_coo_tensor(
        torch.stack([first, second]), weighted, (size, size), check_invariants=False
    ).coalesce()


def _swapped(both: list[Tensor]) -> list[Tensor]:
    """Return matrices and their transposes, which follow one another, in the other order."""
    return [both[number ^ 1] for number in range(len(both))]


class FreshWeights:
    """Draws the weights of the models of a run, which all begin with what the same neighbours say."""

    def __init__(self, dataset: Dataset, processes: Processes) -> None:
        self._dataset, self._processes = dataset, processes

    @torch.no_grad()
    def draw(self, model: GPT, seed: int, stage: int = 0) -> None:
        """Fill a model, on the CPU, for a stage of a run with this seed.

        A model whose embedding is its head as well gets random weights alone.
        """
        path = ("weights", stage) if stage else ("weights",)
        model.initialise(torch.Generator().manual_seed(derive(seed, *path)))
        if model.head is None:
            return
        known, width = self._neighbours, model.config.width
        count = min(width, len(known.strengths))
        scales = STRENGTH * known.strengths[:count] / known.strengths[:2].min()
        model.embedding[:, :count] += known.features[:, :count] * scales
        model.embedding.div_(model.embedding.square().mean(dim=1, keepdim=True).sqrt())
        norm = math.sqrt(1.0 + scales.square().sum().item() / width)  # which the mean vector had
        model.head.weight[:, :count] += TRUST * norm * known.following[:, :count] / scales

    @cached_property
    def _neighbours(self) -> Neighbours:
        """Count them; several processes go by the count of the first, since they may round differently."""
        tokens = self._dataset.train
        if len(tokens) > MOST_TOKENS:
            each = MOST_TOKENS // PIECES
            starts = np.linspace(0, len(tokens) - each, PIECES).astype(np.int64)
            tokens = np.concatenate([tokens[start : start + each] for start in starts])
        own = count_neighbours(tokens, self._dataset.tokenizer.vocab_size)
        return Neighbours(*(self._processes.gather(part)[0] for part in vars(own).values()))
