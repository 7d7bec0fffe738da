"""Model folders made with transformers and tokenizers, the ways people make them, on random weights."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file, save_model

TEXT = "Once upon a time there was a cat.\nThe cat sat on a mat, and the mat was flat. 😀é\n" * 30
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZE = 320  # entries of the vocabulary
PROMPT = "The cat sat"
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
Maker = Callable[[Path], None]


def learned(specials: list[str] | None = None) -> tokenizers.ByteLevelBPETokenizer:
    """Return byte pairs as Hugging Face's own class learns them, of SIZE entries."""
    learner = tokenizers.ByteLevelBPETokenizer()
    learner.train_from_iterator(
        [TEXT + "abcdefghij klmno pqr stuv wxyz, 0123456789.\n" * 9],
        vocab_size=SIZE,
        min_frequency=1,
        special_tokens=specials or ["<|endoftext|>"],
        show_progress=False,
    )
    assert learner.get_vocab_size() == SIZE
    return learner


def fast(specials: list[str] | None = None) -> Any:
    """Return the same as a tokenizer of transformers."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=learned(specials)._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def model_of(*, vocab_size: int = SIZE, seed: int = 0, arch: str = "gpt2", **changes: Any) -> Any:
    """Return a small model of transformers with weights that differ enough to be told apart."""
    of_gpt2: dict[str, Any] = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
    of_gpt2 |= {"bos_token_id": 0, "eos_token_id": 0}
    kinds: dict[str, tuple[Any, Any]] = {
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
        "nanochat": (transformers.NanoChatConfig, transformers.NanoChatForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }
    config, kind = kinds[arch]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = kind(config(vocab_size=vocab_size, **(of_gpt2 if arch == "gpt2" else SMALL) | changes)).eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def plain(folder: Path, tokenizer: Any = None, shard: str = "5GB", **changes: Any) -> None:
    """Save a model and a tokenizer with `save_pretrained`."""
    model_of(**changes).save_pretrained(folder, max_shard_size=shard)
    (tokenizer or fast()).save_pretrained(folder)


def edit(path: Path, **changes: Any) -> None:
    """Change some values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def with_one_name_of_the_tied_pair(folder: Path) -> None:
    plain(folder)
    save_model(model_of(), str(folder / "model.safetensors"))
    stored = load_file(folder / "model.safetensors")
    assert "lm_head.weight" in stored and "transformer.wte.weight" not in stored


def with_generic_names(folder: Path) -> None:
    plain(folder)
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for generic, own in transformers.GPT2Config.attribute_map.items():
        raw[generic] = raw.pop(own)
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")


def with_another_head(folder: Path, **changes: Any) -> None:
    plain(folder, tie_word_embeddings=True, **changes)
    path = folder / "model.safetensors"
    head = torch.randn(SIZE, 32, generator=torch.Generator().manual_seed(3))
    save_file(load_file(path) | {"lm_head.weight": head}, path, metadata={"format": "pt"})


def with_a_pad_token(folder: Path) -> None:
    tokenizer = fast()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    plain(folder, tokenizer)


def with_added_tokens(folder: Path) -> None:
    tokenizer = fast()
    more = [
        "zeb",
        "foo bar",
        "zebra",
        " lead",
        "cat",
        "é中",
        transformers.AddedToken("at on", normalized=False),
    ]
    tokenizer.add_tokens(more)
    plain(folder, tokenizer, vocab_size=len(tokenizer))


def with_vocab_and_merges(folder: Path, *, line_end: str = "\n") -> None:
    model_of(vocab_size=SIZE, bos_token_id=0, eos_token_id=2).save_pretrained(folder)
    learned(SPECIALS).save_model(str(folder))
    merges = folder / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", line_end.encode()))


def with_specials_in_tokenizer_json(folder: Path) -> None:
    model_of(bos_token_id=0, eos_token_id=2).save_pretrained(folder)
    learned(SPECIALS).save(str(folder / "tokenizer.json"))


def with_several_ends(folder: Path, **changes: Any) -> None:
    """Ends that its own greedy text runs into, the second of them first."""
    plain(folder, **changes)
    ids = torch.tensor([learned().encode(PROMPT).ids])
    text = model_of(**changes).generate(ids, max_new_tokens=40, do_sample=False, eos_token_id=None)
    new = list(dict.fromkeys(text[0, ids.size(1) :].tolist()))
    edit(folder / "generation_config.json", eos_token_id=[SIZE - 1, new[3], new[2], 10**6])
    edit(folder / "config.json", eos_token_id=new[0])


def in_a_cache(folder: Path) -> None:
    """Lay a folder out as Hugging Face's cache does: links into `blobs`, and a snapshot that is older."""
    plain(folder / "whole")
    for commit in ("0" * 40, "1" * 40):
        (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "blobs").mkdir()
    for file in (folder / "whole").iterdir():
        file.rename(folder / "blobs" / f"of-{file.name}")
        (folder / "snapshots" / ("0" * 40) / file.name).symlink_to(f"../../blobs/of-{file.name}")
    (folder / "whole").rmdir()
    plain(folder / "snapshots" / ("1" * 40), seed=5)
    os.utime(folder / "snapshots" / ("0" * 40), (1, 1))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40, encoding="utf-8")


def snapshot_of(folder: Path) -> Path:
    """Return the folder that transformers opens: of a cache, the snapshot that `refs/main` names."""
    return folder / "snapshots" / ("0" * 40) if (folder / "snapshots").is_dir() else folder


def _of(**changes: Any) -> Maker:
    return lambda folder: plain(folder, **changes)


FOLDERS: dict[str, Maker] = {
    "plain": plain,
    "several files": _of(shard="20KB"),
    "nanochat in several files": _of(arch="nanochat", shard="20KB"),
    "llama in several files": _of(arch="llama", shard="20KB", tie_word_embeddings=True),
    "qwen3": _of(arch="qwen3", head_dim=16),
    "one name of the tied pair": with_one_name_of_the_tied_pair,
    "generic names": with_generic_names,
    "another head": with_another_head,
    "nanochat with another head": lambda folder: with_another_head(folder, arch="nanochat"),
    **{
        name: _of(activation_function=name)
        for name in (
            "gelu_pytorch_tanh",
            "gelu_fast",
            "silu",
            "swish",
            "gelu_python",
            "gelu_accurate",
            "gelu",
        )
    },
    "nanochat with silu": _of(arch="nanochat", hidden_act="silu"),
    "scores by layer": _of(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True),
    "scores not by width": _of(scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True),
    "a pad token": with_a_pad_token,
    "added tokens": with_added_tokens,
    "vocab.json with special tokens": with_vocab_and_merges,
    "merges.txt with CRLF": lambda folder: with_vocab_and_merges(folder, line_end="\r\n"),
    "tokenizer.json with special tokens": with_specials_in_tokenizer_json,
    "several ends": with_several_ends,
    "nanochat with several ends": lambda folder: with_several_ends(folder, arch="nanochat"),
    "a cache": in_a_cache,
    "a padded vocabulary": _of(vocab_size=SIZE + 17),
    "nanochat with a padded vocabulary": _of(arch="nanochat", vocab_size=SIZE + 17),
}
