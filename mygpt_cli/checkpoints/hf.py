"""Configurations and tensors, to and from Hugging Face's names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.base.errors import CheckpointError, MygptError, join_faults
from mygpt_cli.model.architectures import ARCHITECTURES, configure, find
from mygpt_cli.model.architectures.base import HEAD, Reader, Slot
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT

PREDICTS = ("ForCausalLM", "LMHeadModel", "Model")  # ends of the names of transformers' classes
QUANTISED = ("quantization_config", "quantization", "compression_config")
NOT_TEXT = {"text_config", "vision_config", "audio_config", "speech_config"}


def slots(config: ModelConfig) -> list[Slot]:
    """List the tensors of a checkpoint of this shape, without allocating any."""
    return list(find(config.arch).slots(config))


def to_tensors(model: GPT) -> dict[str, Tensor]:
    """Return the model's weights under Hugging Face's names, contiguous and on the CPU."""
    parameters = dict(model.named_parameters())
    tensors = {}
    for slot in slots(model.config):
        if not slot.ours:
            tensors[slot.name] = torch.zeros(slot.shape)
            continue
        tensor: Tensor = parameters[slot.ours].detach().cpu()
        if slot.rows:
            tensor = tensor[slice(*slot.rows)]
        tensors[slot.name] = (tensor.T if slot.transposed else tensor).contiguous()
    return tensors


@torch.no_grad()
def fill(model: GPT, tensors: Mapping[str, Tensor]) -> None:
    """Copy checked tensors (see `check_shapes`) under Hugging Face's names into the model."""
    parameters = dict(model.named_parameters())
    for slot in slots(model.config):
        if slot.ours:
            target: Tensor = parameters[slot.ours]
            target = target[slice(*slot.rows)] if slot.rows else target
            target.copy_(tensors[slot.name].T if slot.transposed else tensors[slot.name])


@torch.no_grad()
def attach(model: GPT, tensors: Mapping[str, Tensor]) -> None:
    """Take checked tensors as the matrices of the model's layers, in the type and the memory that they have.

    So matrices of a file that is mapped into memory take none of their own, unless they are parts of one of
    ours. Everything else is copied, as `fill` does. The model is marked as `mapped`.
    """
    by_parameter: dict[str, list[Slot]] = {}
    for slot in slots(model.config):
        by_parameter.setdefault(slot.ours, []).append(slot)
    for name, parameter in list(model.named_parameters()):
        ordered = sorted(by_parameter[name], key=lambda slot: slot.rows or (0, 0))
        parts = [tensors[slot.name].T if slot.transposed else tensors[slot.name] for slot in ordered]
        if parameter.ndim < 2 or name in ("embedding", "positions"):
            parameter.copy_(torch.cat(parts))
            continue
        module, _, attribute = name.rpartition(".")
        matrix = parts[0] if len(parts) == 1 else torch.cat(parts)
        setattr(model.get_submodule(module), attribute, torch.nn.Parameter(matrix, requires_grad=False))
    model.mapped = True


def canonical_names(names: list[str], config: ModelConfig) -> dict[str, str]:
    """Map the canonical name of each tensor to its name in a file.

    Files from elsewhere may lack the architecture's prefix, carry buffers, or hold a tied head, beside the
    embedding or in its place.
    """
    architecture = find(config.arch)
    prefix, embedding = architecture.prefix, architecture.embedding
    bare = bool(prefix) and not any(name.startswith(prefix) for name in names)
    canonical: dict[str, str] = {}
    for name in names:
        if not name.endswith(architecture.buffers):
            canonical[f"{prefix}{name}" if bare and name != HEAD else name] = name
    if config.tied and HEAD in canonical and embedding not in canonical:
        canonical[embedding] = canonical.pop(HEAD)
    return canonical


def check_shapes(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError listing every tensor that is missing, foreign or of another shape.

    A head is no fault where it is tied: `settle` looks whether it is another matrix.
    """
    expected = {slot.name: slot.shape for slot in slots(config)}
    if HEAD in shapes:
        expected[HEAD] = (config.vocab_size, config.width)
    faults = [f"'{name}' is missing" for name in expected if name not in shapes]
    faults += [f"'{name}' does not belong to this model" for name in shapes if name not in expected]
    faults += [
        f"'{name}' has shape {tuple(shapes[name])}, and config.json asks for {shape}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    if faults:
        raise CheckpointError(
            f"the weights do not fit the configuration: {join_faults(faults, most=8)}",
            "config.json and the weights must come from the same model",
        )


def special_ids(begin: int | None, ends: Sequence[int]) -> dict[str, Any]:
    """Return how `config.json` and `generation_config.json` name the tokens that begin and end a text."""
    return {
        "bos_token_id": begin,
        "eos_token_id": list(ends) if len(ends) > 1 else next(iter(ends), None),
    }


def to_config(config: ModelConfig, begin: int | None = None, ends: Sequence[int] = ()) -> dict[str, Any]:
    """Return the contents of `config.json`."""
    return {
        "model_type": config.arch,
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        **special_ids(begin, ends),
        "pad_token_id": None,
        **find(config.arch).to_config(config),
    }


def from_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Read `config.json`; raises CheckpointError for a kind or variant of model that mygpt does not have."""
    arch = raw.get("model_type")
    if not isinstance(arch, str) or arch not in ARCHITECTURES:
        *names, last = ARCHITECTURES
        raise CheckpointError(
            f"config.json describes a model of type {arch!r:.100}{_what_it_is(raw)}",
            f"mygpt opens {', '.join(names)} and {last} models",
        )
    made_as = raw.get("architectures")
    if isinstance(made_as, list) and made_as and not any(str(one).endswith(PREDICTS) for one in made_as):
        raise CheckpointError(
            f"config.json describes a {made_as[0]!r:.100}, which does not predict the next token",
            "mygpt opens models with a head for that",
        )
    if any(raw.get(name) is not None for name in QUANTISED):
        raise CheckpointError(
            "config.json says that the weights are quantised, and mygpt has no such matrices",
            "take the folder that they were made from; `mygpt sample --quantize` makes its own",
        )
    read = Reader(raw)
    try:
        config = configure(arch, **find(arch).from_config(read))
    except CheckpointError:
        raise
    except MygptError as error:
        raise CheckpointError(f"config.json: {error.message}") from None
    if read.faults:
        raise CheckpointError(
            f"config.json: {join_faults(read.faults)}", "mygpt has no such variant of this model"
        )
    return config


def _what_it_is(raw: Mapping[str, Any]) -> str:
    """Say which kind of models that mygpt does not have this is, where it shows."""
    if any("expert" in name for name in raw):
        return ", a mixture of experts"
    if NOT_TEXT & raw.keys():
        return ", which takes more than text"
    return ", an encoder and a decoder" if raw.get("is_encoder_decoder") is True else ""


def notes(config: ModelConfig) -> list[str]:
    """Return what the user should know of how mygpt takes a model from elsewhere."""
    if not config.full_context:
        return []
    made, taken = f"{config.full_context:,}", f"{config.context:,}"
    return [
        f"the model was made for contexts of {made} tokens; mygpt uses {taken} at most, because it keeps no "
        "longer tables of rotary angles"
    ]


def settle(config: ModelConfig, tensors: Mapping[str, Tensor]) -> ModelConfig:
    """Return the configuration that checked tensors have, where it is more than `config.json` says.

    Biases come back that were trained elsewhere after mygpt saved a gpt2 model without. A head that is not
    the embedding it should be tied to is a head of its own, as in transformers from version 5 on.
    """
    missing = [slot.name for slot in slots(config) if not slot.ours]
    if any(bool(tensors[name].any()) for name in missing):
        config = replace(config, norm_bias=True, mlp_bias=True, attention_bias=True, output_bias=True)
    if config.tied and HEAD in tensors:
        embedding, head = tensors[find(config.arch).embedding], tensors[HEAD]
        if not torch.equal(embedding.to(torch.float32), head.to(torch.float32)):
            config = replace(config, tied=False)
    return config
