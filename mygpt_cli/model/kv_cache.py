"""Keys and values of the tokens already seen, so that each new token costs one position."""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of every layer, allocated once.

    `shape` is (layers, batch, key/value heads, tokens, head width). `length` tokens are filled; the model
    advances it once all layers have written.
    """

    def __init__(
        self, shape: tuple[int, int, int, int, int], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self.keys.size(3)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, K, T, D) keys and values after the filled ones and return all of them, (B, K, S, D)."""
        end = self.length + keys.size(2)
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep these sequences (R,), in this order; one that is named several times goes on several times."""
        self.keys = _pick(self.keys, rows, self.length)
        self.values = _pick(self.values, rows, self.length)


def _pick(whole: Tensor, rows: Tensor, length: int) -> Tensor:
    layers, _, *rest = whole.shape
    picked = whole.new_zeros(layers, len(rows), *rest)
    picked[:, :, :, :length] = whole[:, rows, :, :length]
    return picked
