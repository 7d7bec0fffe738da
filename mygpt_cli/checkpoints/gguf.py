"""A checkpoint as a GGUF file, which llama.cpp and ollama run: written, read back and compared.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The package `gguf` writes and reads it,
and knows llama.cpp's names for tensors. llama.cpp's own convert_hf_to_gguf.py is the reference.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mygpt_cli.base.errors import CheckpointError, MygptError, ResourceError, UsageError, join_faults
from mygpt_cli.base.files import replaced
from mygpt_cli.base.progress import OnProgress
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.gguf_vocabulary import HINT, GgufVocabulary, describe
from mygpt_cli.model.architectures import ARCHITECTURES, find
from mygpt_cli.model.architectures.base import Slot
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT, rotary_frequencies
from mygpt_cli.tokens.tokenizer import Tokenizer

TYPES = ("f32", "bf16", "q8_0")  # of matrices; all else is float32
FILE_TYPES = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
BLOCK = 32  # numbers of a row that share a scale in q8_0
SUFFIXES = (".weight", ".bias")
ROPE_FREQS = "rope_freqs.weight"


@dataclass(frozen=True)
class Exported:
    """What was written, and compared with the checkpoint once it had been read back.

    `tensors` counts them by type. Of those in f32 and bf16 all numbers are the same, rounded to that type; of
    those in q8_0 none is farther off than rounding takes it, and none by more than `largest_error`. The
    vocabulary is the same token by token, with all merges or, in a vocabulary of pieces, all scores.
    """

    file: str
    architecture: str
    type: str
    bytes: int
    parameters: int
    tensors: dict[str, int]
    largest_error: float
    tokens: int
    merges: int
    scores: int
    chat_template: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """A tensor of the file: llama.cpp's name, its type there, its shape, and how to get its numbers."""

    name: str
    type: str
    shape: tuple[int, ...]
    numbers: Callable[[], np.ndarray]


def check_gguf() -> None:
    """Raise UsageError where the package `gguf` is not installed."""
    _library()


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise UsageError(
            "a GGUF file needs the package 'gguf', which is not installed", "pip install gguf"
        ) from None
    return gguf


def check_config(config: ModelConfig) -> None:
    """Raise CheckpointError for a model that llama.cpp does not have, with the reason."""
    architecture = find(config.arch)
    if not architecture.gguf:
        can = ", ".join(name for name, each in ARCHITECTURES.items() if each.gguf)
        raise CheckpointError(
            f"llama.cpp has no {architecture.name} models, and so a GGUF file cannot hold this one",
            f"{can} models can be exported: {HINT}",
        )
    if faults := architecture.gguf_faults(config):
        raise CheckpointError(f"llama.cpp has no such {architecture.name} model: {join_faults(faults)}", HINT)


def export(checkpoint: Checkpoint, path: Path, kind: str, progress: OnProgress) -> Exported:
    """Write a checkpoint as a GGUF file with matrices of this type, whole or not at all.

    It takes the place of what was there only once it has been read back and is the same. `progress` is called
    with what is being done and the fraction of it that is done.

    Raises CheckpointError for a model or a tokenizer that llama.cpp does not have, UsageError where the
    package is missing, ResourceError where the file cannot be written.
    """
    check_config(checkpoint.config)
    vocabulary = describe(checkpoint.tokenizer)
    entries = _entries(checkpoint.model, kind)
    try:
        with replaced(path) as new:
            _write(new, entries, checkpoint.config, vocabulary, kind, path.stem, progress)
            reader = _library().GGUFReader(new)
            error = _compare_tensors(reader, entries, progress)
            _compare_vocabulary(reader, vocabulary, checkpoint.tokenizer)
            del reader  # which keeps the file open
            size = new.stat().st_size
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise ResourceError(
            f"cannot write {path}: {reason}", "name a file in a folder with room that you can write to"
        ) from None
    counts = {each: sum(entry.type == each for entry in entries) for each in TYPES}
    return Exported(
        file=str(path),
        architecture=find(checkpoint.config.arch).gguf,
        type=kind,
        bytes=size,
        parameters=sum(int(np.prod(entry.shape)) for entry in entries if entry.name != ROPE_FREQS),
        tensors={each: count for each, count in counts.items() if count},
        largest_error=error,
        tokens=len(vocabulary.tokens),
        merges=len(vocabulary.merges),
        scores=len(vocabulary.scores),
        chat_template=vocabulary.chat_template is not None,
        notes=(*vocabulary.notes, *_windows(checkpoint.config), *_unrounded(entries, kind)),
    )


def write_weights(model: GPT, path: Path, kind: str) -> None:
    """Write a model without a vocabulary, which is all that llama.cpp needs to measure how fast it is.

    Raises CheckpointError for a model that llama.cpp does not have, UsageError where the package is missing.
    """
    check_config(model.config)
    _write(path, _entries(model, kind), model.config, None, kind, path.stem, lambda what, fraction: None)


def _windows(config: ModelConfig) -> list[str]:
    """Say what the file's model reads at once, where that is less than the checkpoint's."""
    if config.within_windows == config.context:
        return []
    return [
        f"the file is for {config.within_windows:,} tokens at a time, not {config.context:,}: llama.cpp has "
        f"no windows of attention for {config.arch} models"
    ]


def _unrounded(entries: list[_Entry], kind: str) -> list[str]:
    """Say which matrices could not have the type that was asked for."""
    left = sum(entry.type != kind and _is_matrix(entry.name, entry.shape) for entry in entries)
    why = f"their rows are no multiple of {BLOCK}"
    return [f"{left} matrices stay in f32, because {why}"] if left else []


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and not name.startswith("position_embd")  # which are added, row by row


def _entries(model: GPT, kind: str) -> list[_Entry]:
    """List the tensors of the file. Of a tied head there is none."""
    library, config = _library(), model.config
    architecture = find(config.arch)
    kinds = {name: arch for arch, name in library.MODEL_ARCH_NAMES.items()}
    names = library.get_tensor_name_map(kinds[architecture.gguf], config.layers)
    entries = []
    if config.rope_scaling and config.rope_scaling.kind == "llama3":
        entries.append(_Entry(ROPE_FREQS, "f32", (config.head_width // 2,), lambda: _slowdowns(config)))
    for slot in architecture.slots(config):
        name = names.get_name(slot.name, try_suffixes=SUFFIXES)
        shape = slot.shape[::-1] if slot.transposed else slot.shape
        fits = kind != "q8_0" or shape[-1] % BLOCK == 0
        each = kind if _is_matrix(name, shape) and fits else "f32"
        entries.append(_Entry(name, each, shape, partial(_numbers, model, slot)))
    return entries


def _slowdowns(config: ModelConfig) -> np.ndarray:
    """Return by what the frequency of each pair of channels is divided."""
    plain = rotary_frequencies(replace(config, rope_scaling=None))
    divisors: np.ndarray = (plain / rotary_frequencies(config)).numpy()
    return divisors


def _numbers(model: GPT, slot: Slot) -> np.ndarray:
    """Return the numbers of a tensor, float32, as (out, in); zeros for a bias that the model lacks."""
    if not slot.ours:
        return np.zeros(slot.shape, np.float32)
    tensor = model.get_parameter(slot.ours).detach().float()
    if slot.rows:
        tensor = tensor[slice(*slot.rows)]
        config = model.config
        rotated = (config.heads + config.kv_heads) * config.head_width
        if slot.rows[0] < rotated and find(config.arch).interleaved:
            heads = tensor.reshape(-1, 2, config.head_width // 2, *tensor.shape[1:])  # (heads, 2, D/2, …)
            tensor = heads.transpose(1, 2).flatten(0, 2)  # pairs (d, d + D/2) side by side
    numbers: np.ndarray = tensor.contiguous().numpy()
    return numbers


def _packed(numbers: np.ndarray, kind: str) -> np.ndarray:
    library = _library()
    # In q8_0 the inverse of the smallest scales is infinite; such a block is read back as zeros.
    with np.errstate(over="ignore", invalid="ignore"):
        packed: np.ndarray = library.quants.quantize(numbers, library.GGMLQuantizationType[kind.upper()])
    return packed


def _write(
    path: Path,
    entries: list[_Entry],
    config: ModelConfig,
    vocabulary: GgufVocabulary | None,
    kind: str,
    name: str,
    progress: OnProgress,
) -> None:
    library = _library()
    writer = library.GGUFWriter(path, find(config.arch).gguf)
    try:
        writer.add_name(name)
        writer.add_file_type(library.LlamaFileType[FILE_TYPES[kind]])
        if kind == "q8_0":
            writer.add_quantization_version(library.GGML_QUANT_VERSION)
        _describe_model(writer, config)
        if vocabulary:
            _describe_vocabulary(writer, vocabulary)
        else:
            writer.add_tokenizer_model("none")
        for entry in entries:
            form = library.GGMLQuantizationType[entry.type.upper()]
            block, size = library.GGML_QUANT_SIZES[form]
            length = int(np.prod(entry.shape)) // block * size
            writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), length, raw_dtype=form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, entry in enumerate(entries):
            progress("writing", done / len(entries))
            writer.write_tensor_data(_packed(entry.numbers(), entry.type))
    finally:
        writer.close()


def _describe_model(writer: Any, config: ModelConfig) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.within_windows)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.mlp_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    (writer.add_layer_norm_eps if config.norm == "layer" else writer.add_layer_norm_rms_eps)(config.norm_eps)
    if config.positions == "rotary":
        writer.add_rope_dimension_count(config.head_width)
        writer.add_rope_freq_base(config.rope_theta)
        if config.rope_scaling and config.rope_scaling.kind == "linear":
            writer.add_rope_scaling_type(_library().RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(config.rope_scaling.factor)


def _describe_vocabulary(writer: Any, vocabulary: GgufVocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.adds_space)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.begin)
    adders = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, token in zip(adders, vocabulary.ends, strict=False):
        add(token)
    if vocabulary.unknown is not None:
        writer.add_unk_token_id(vocabulary.unknown)
    writer.add_add_bos_token(vocabulary.adds_begin)
    writer.add_add_eos_token(False)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _compare_tensors(reader: Any, entries: list[_Entry], progress: OnProgress) -> float:
    """Compare the tensors of a file with those of the model; return the largest error of q8_0."""
    stored = {tensor.name: tensor for tensor in reader.tensors}
    if stored.keys() != {entry.name for entry in entries}:
        raise _differs("other tensors than the model")
    largest = 0.0
    for done, entry in enumerate(entries):
        progress("comparing", done / len(entries))
        tensor, numbers = stored[entry.name], entry.numbers()
        same = tensor.tensor_type.name.lower() == entry.type
        if not same or tuple(map(int, tensor.shape))[::-1] != numbers.shape:
            raise _differs(f"'{entry.name}' in another type or shape")
        if entry.type == "q8_0":
            error, most = _q8_0_errors(tensor.data, numbers)
            same = bool((error <= most).all())
            largest = max(largest, float(error.max()))
        elif entry.type == "bf16":  # rounded once more, by another library
            rounded = torch.from_numpy(numbers).bfloat16().view(torch.int16).numpy()
            same = np.array_equal(tensor.data.view(np.int16), rounded)
        else:
            same = np.array_equal(tensor.data, numbers)
        if not same:
            raise _differs(f"other numbers in '{entry.name}'")
    return largest


def _q8_0_errors(packed: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each number of q8_0 is off, and how far rounding may take it.

    A number is a whole multiple, up to 127, of a scale for its block, itself rounded to float16.
    """
    library = _library()
    with np.errstate(invalid="ignore"):  # of numbers too large for float16, which differ
        read = library.quants.dequantize(packed, library.GGMLQuantizationType.Q8_0).reshape(-1, BLOCK)
    blocks = numbers.reshape(-1, BLOCK)
    scales = np.abs(blocks).max(axis=1, keepdims=True).astype(np.float64) / 127
    scale_errors = np.maximum(scales * 2.0**-11, 2.0**-25)
    return np.abs(read - blocks), (scales / 2 + 127 * scale_errors) * (1 + 1e-6)


def _compare_vocabulary(reader: Any, vocabulary: GgufVocabulary, tokenizer: Tokenizer) -> None:
    """Raise an error unless a file holds this vocabulary, and that the bytes of the tokenizer's tokens."""

    def read(name: str) -> Any:
        field = reader.fields.get(f"tokenizer.ggml.{name}")
        return [] if field is None else field.contents()

    for name in ("tokens", "merges", "scores"):
        if read(name) != getattr(vocabulary, name):
            raise _differs(f"other {name}")
    if read("token_type") != vocabulary.types:
        raise _differs("tokens of other types")
    for token in range(tokenizer.vocab_size):
        if vocabulary.token_bytes(token) != tokenizer.token_bytes(token):
            raise _differs(f"other bytes for token {token}")


def _differs(what: str) -> MygptError:
    return MygptError(f"the GGUF file, read back, has {what}", "nothing was written; this should not happen")
