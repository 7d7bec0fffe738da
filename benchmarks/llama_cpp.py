"""Tokens per second of llama.cpp's `llama-bench`, where it and the Python package `gguf` are installed."""

import json
import os
import re
import shutil
import statistics
import subprocess
from importlib.util import find_spec
from pathlib import Path

import torch

from mygpt_cli.model.gpt import GPT

TYPES = {"none": "F32", "bfloat16": "BF16", "int8": "Q8_0"}  # F16 came out no faster than BF16
NAMES = {
    "embedding": "token_embd.weight",
    "positions": "position_embd.weight",
    "norm": "output_norm",
    "blocks": "blk",
    "attention_norm": "attn_norm",
    "attention.qkv": "attn_qkv",
    "attention.out": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}


def find(named: str | None) -> str | None:
    """Return the command: the one named, that of LLAMA_BENCH, or the one on the PATH; or None, and say so."""
    command = shutil.which(named or os.environ.get("LLAMA_BENCH", "llama-bench"))
    if command and find_spec("gguf"):
        return command
    print("llama.cpp is left out: it takes llama-bench (see --llama-bench) and `pip install gguf`")
    return None


def write(model: GPT, kind: str, path: Path) -> None:
    """Write a model of the gpt2 architecture as a GGUF file without a vocabulary."""
    import gguf

    config = model.config
    file = gguf.GGUFWriter(path, "gpt2")
    file.add_context_length(config.context)
    file.add_embedding_length(config.width)
    file.add_block_count(config.layers)
    file.add_feed_forward_length(config.mlp_width)
    file.add_head_count(config.heads)
    file.add_layer_norm_eps(config.norm_eps)
    file.add_tokenizer_model("none")
    file.add_vocab_size(config.vocab_size)
    for name, weight in model.named_parameters():
        matrix = weight.ndim == 2 and weight is not model.positions
        form = gguf.GGMLQuantizationType[TYPES[kind] if matrix else "F32"]
        name = re.sub(rf"\b({'|'.join(NAMES)})\b", lambda part: NAMES[part[0]], name)
        file.add_tensor(name, gguf.quants.quantize(weight.detach().numpy(), form), raw_dtype=form)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def rate(command: str, path: Path, tokens: int, repeats: int) -> float:
    """Return the tokens per second of one sequence, the median of some runs, on as many threads as torch."""
    options = {"-m": path, "-p": 0, "-n": tokens, "-t": torch.get_num_threads(), "-ngl": 0, "-r": repeats}
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run(
        [command, *words, "-o", "json"], check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    rates: list[float] = json.loads(done.stdout)[0]["samples_ts"]
    return statistics.median(rates)
