"""Small models of every kind, with random weights."""

from typing import Any

import torch

from mygpt_cli.model.architectures import configure
from mygpt_cli.model.config import RopeScaling
from mygpt_cli.model.gpt import GPT

SHAPE: dict[str, Any] = {"vocab_size": 53, "layers": 2, "heads": 4, "width": 32, "context": 24}


VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"arch": "gpt2"},
    "gpt2, no biases": {"arch": "gpt2", "bias": False},
    "gpt2, no attention biases, own head": {
        "arch": "gpt2",
        "attention_bias": False,
        "output_bias": False,
        "tied": False,
    },
    "gpt2, exact gelu, narrow": {"arch": "gpt2", "activation": "gelu", "mlp_width": 40},
    "gpt2, silu, scores by layer": {
        "arch": "gpt2",
        "activation": "silu",
        "scale_by_layer": True,
        "scale_by_width": False,
    },
    "nanochat": {"arch": "nanochat"},
    "nanochat, shared keys": {"arch": "nanochat", "kv_heads": 2},
    "nanochat, no cap, tied, biases": {
        "arch": "nanochat",
        "softcap": 0.0,
        "tied": True,
        "attention_bias": True,
        "output_bias": True,
    },
    "nanochat, other rotation": {
        "arch": "nanochat",
        "rope_theta": 500.0,
        "rope_scaling": RopeScaling(kind="linear", factor=2.0),
        "norm_eps": 1e-5,
        "softcap": 5.0,
    },
    "llama, shared keys": {"arch": "llama", "kv_heads": 2},
    "llama, tied, all biases, scaled": {
        "arch": "llama",
        "tied": True,
        "mlp_bias": True,
        "attention_bias": True,
        "output_bias": True,
        "rope_scaling": RopeScaling(kind="llama3", factor=8.0, original_context=16),
    },
    "qwen2": {"arch": "qwen2", "kv_heads": 1, "window": 7, "windowed": (1,)},
    "qwen3": {"arch": "qwen3", "kv_heads": 2},
    "smollm3": {"arch": "smollm3", "unrotated": (1,)},
}


def random_model(**config: Any) -> GPT:
    model = GPT(configure(**(SHAPE | config)))
    rng = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.2, generator=rng)
    return model


IDS = tuple(torch.randint(0, 53, (24,), generator=torch.Generator().manual_seed(1)).tolist())
