"""An ensemble as one model: several of the same shape side by side, of which the logits are averaged.

Each keeps channels, heads and units of its own, between which all weights are zeros, so that the result is an
ordinary model, as many times as wide. Its logits are the mean of the models' logits but for one thing: a norm
measures the channels of all models together. Models of the same shape that were trained in the same way are
nearly equal in it, and copies of one model are so exactly.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT

EMBEDDING, POSITIONS, HEAD = "embedding", "positions", "head.weight"


def is_shared(name: str) -> bool:
    """Whether this is one gain for the queries or keys of all heads, which must be alike in all models."""
    return ".query_norm." in name or ".key_norm." in name


def joined_config(config: ModelConfig, count: int) -> ModelConfig:
    """Return what this many models of a shape are together."""
    names = ("width", "heads", "kv_heads", "mlp_width")
    return replace(config, **{name: count * getattr(config, name) for name in names})


@torch.no_grad()
def join(models: Sequence[GPT]) -> GPT:
    """Return models of the same shape as one.

    Raises ValueError for models whose logits cannot be divided, having neither a head of their own nor a gain
    before it, and for models that differ in what they are to share.
    """
    first, count = models[0], len(models)
    config = first.config
    if config.tied and (config.embedding_norm or not config.norm_gain):
        raise ValueError("the embedding is the head as well, and there is no gain before it")
    whole = GPT(joined_config(config, count)).to(first.embedding.device)
    whole.requires_grad_(False)
    whole.compute_dtype = first.compute_dtype
    named = [dict(model.named_parameters()) for model in models]
    for name, parameter in whole.named_parameters():
        parameter.copy_(_joined(name, [_scaled(name, each[name], config, count) for each in named], config))
    return whole


def _scaled(name: str, own: Tensor, config: ModelConfig, count: int) -> Tensor:
    """Return a model's part so that the sum of all is their mean, and a norm of embeddings is for each."""
    if name == EMBEDDING and config.embedding_norm and config.positions != "learned":
        shape = (config.width,)
        if config.norm == "layer":
            return F.layer_norm(own, shape, eps=config.norm_eps)
        return F.rms_norm(own, shape, eps=config.norm_eps)
    last = ("norm.weight", "norm.bias") if config.tied else (HEAD,)
    return own / count if name in last else own


def _joined(name: str, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
    """Lay the channels of the models side by side, and between them zeros."""
    if name in (EMBEDDING, POSITIONS, HEAD):
        return torch.cat(list(parts), dim=1)
    if ".qkv." in name:  # all queries, then all keys, then all values
        rows = [heads * config.head_width for heads in (config.heads, config.kv_heads, config.kv_heads)]
        kinds = zip(*(torch.split(part, rows) for part in parts), strict=True)
        return torch.cat([_side_by_side(list(kind)) for kind in kinds])
    if is_shared(name):
        if not all(torch.equal(part, parts[0]) for part in parts):
            raise ValueError(f"{name} is shared by all heads, but is another in each of the models")
        return parts[0]
    return _side_by_side(parts)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Join vectors (N) end to end, or matrices (N, M) along the diagonal."""
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    (rows, columns), count = parts[0].shape, len(parts)
    whole = parts[0].new_zeros(count, rows, count, columns)
    for number, part in enumerate(parts):
        whole[number, :, number] = part
    return whole.view(count * rows, count * columns)
