"""Llama and its relatives against transformers' own models of every kind and variant, with random weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import CheckpointError, UsageError
from mygpt_cli.checkpoints import checkpoint, hf, saving
from mygpt_cli.checkpoints.checkpoint import Checkpoint, frozen
from mygpt_cli.cli.app import run
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt, Sample, generate
from mygpt_cli.inspection.trace import heads_of, logits_of, trace
from mygpt_cli.model.architectures import ARCHITECTURES, configure
from mygpt_cli.model.config import LONGEST_CONTEXT
from mygpt_cli.model.gpt import GPT, rotary_tables
from tests.helpers.standins import byte_tokenizer

CONTEXT = 48
SMALL: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LINEAR = {"rope_type": "linear", "rope_theta": 300.0, "factor": 4.0}
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 50000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 20}
OWN_HEADS = {"head_dim": 16}
KINDS: dict[str, Any] = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "smollm3": transformers.SmolLM3Config,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, one head of keys": {"num_key_value_heads": 1},
    "llama, a head of keys for each": {"num_key_value_heads": None},
    "llama, tied": {"tie_word_embeddings": True},
    "llama, biases of attention": {"attention_bias": True},
    "llama, biases of the feed-forward part": {"mlp_bias": True},
    "llama, heads of their own width": OWN_HEADS,
    "llama, nine heads and three": {"hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3},
    "llama, other epsilon and activation": {"rms_norm_eps": 1e-2, "hidden_act": "gelu_pytorch_tanh"},
    "llama, linear scaling": {"rope_parameters": LINEAR},
    "llama, its own scaling": {"rope_parameters": LLAMA3},
    "mistral": {"sliding_window": None},
    "mistral, a window": {"sliding_window": 20},
    "mistral, a window beyond the context": {"head_dim": 12},
    "qwen2": {},
    "qwen2, tied, one head of keys": {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "qwen2, a window in some layers": {**WINDOW, "max_window_layers": 2},
    "qwen2, a window in layers that are listed": {
        **WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    },
    "qwen2, linear scaling": {"rope_parameters": LINEAR},
    "qwen3": {"head_dim": 8},
    "qwen3, wide heads": OWN_HEADS,
    "qwen3, a width that heads do not divide": {"hidden_size": 30, **OWN_HEADS},
    "qwen3, tied, biases": {**OWN_HEADS, "tie_word_embeddings": True, "attention_bias": True},
    "qwen3, a window": {**OWN_HEADS, **WINDOW, "max_window_layers": 1},
    "smollm3": {},
    "smollm3, untied, biases": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    "smollm3, layers that are listed": {"no_rope_layers": [0, 1, 1, 0]},
    "smollm3, a window": WINDOW,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def their_config(variant: str, **changes: Any) -> Any:
    kind = variant.partition(",")[0]
    return KINDS[kind](**(SMALL | VARIANTS[variant] | changes))


def theirs_of(variant: str, folder: Path, **changes: Any) -> Any:
    """Save a model of transformers, with weights that differ enough to be told apart, and return it."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        config = their_config(variant, **changes)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if "norm" in name else 0.3))
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_text(), encoding="utf-8")
    return model


@cache
def tokenizer_text() -> str:
    return byte_tokenizer().to_json()


def opened(folder: Path) -> Checkpoint:
    loaded = checkpoint.load(folder)
    frozen(loaded.model)
    return loaded


def random_ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 257, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_is_what_transformers_makes_of_it_and_so_is_what_is_saved(
    variant: str, tmp_path: Path
) -> None:
    """Logits, streams and attention; then the same model and configuration again, from mygpt's folder."""
    theirs = theirs_of(variant, tmp_path / "theirs")
    ours = opened(tmp_path / "theirs")
    assert ours.config.context == CONTEXT  # longer than the windows, where there are any
    ids = random_ids(2, CONTEXT)
    with torch.no_grad():
        out = theirs(ids, output_hidden_states=True, output_attentions=True)
        assert out.logits.std() > 1
        torch.testing.assert_close(ours.model(ids), out.logits, atol=1e-4, rtol=0)
        cache = ours.model.new_cache(2)
        parts = [ours.model(part, cache=cache) for part in torch.split(ids, [7, 1, CONTEXT - 9, 1], dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), out.logits, atol=1e-4, rtol=0)
    found = trace(ours.model, tuple(ids[0].tolist()))
    for stream, hidden in zip(found.streams[:-1], out.hidden_states[:-1], strict=True):
        torch.testing.assert_close(stream, hidden[0], atol=1e-4, rtol=0)
    for layer, weights in enumerate(out.attentions):
        torch.testing.assert_close(heads_of(found, layer).weights, weights[0], atol=3e-5, rtol=0)
    logits = logits_of(found, found.streams[-1])
    torch.testing.assert_close(logits, out.logits[0].double(), atol=1e-4, rtol=0)

    saving.save(tmp_path / "ours", model=ours.model, tokenizer=ours.tokenizer, state={"step": 1})
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert type(again) is type(theirs)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, out.logits, atol=1e-5, rtol=0)
    assert described(again.config) == described(theirs.config)
    assert opened(tmp_path / "ours").config == ours.config


def described(config: Any) -> dict[str, Any]:
    """Return what a configuration says that decides what a model computes."""
    unlike = (
        "_name_or_path",
        "transformers_version",
        "dtype",
        "mygpt_dropout",
        "bos_token_id",
        "eos_token_id",
    )
    facts = {name: value for name, value in config.to_dict().items() if name not in unlike}
    facts["head_dim"] = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    facts["max_window_layers"] = None  # which layer_types say, too
    return facts


@pytest.mark.parametrize(
    "variant",
    [
        "llama, nine heads and three",
        "llama, its own scaling",
        "mistral",
        "mistral, a window",
        "qwen2",
        "qwen2, a window in some layers",
        "qwen3, wide heads",
        "smollm3",
    ],
)
def test_two_hundred_greedy_tokens_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant, tmp_path, max_position_embeddings=256)
    ours = opened(tmp_path)
    ids = random_ids(1, 9)
    new = {"max_new_tokens": 200, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **new)[0, 9:].tolist()
    sampling = Sampling(seed=1, max_new_tokens=200, temperature=0.0, ignore_end=True)
    events = generate(
        ReferenceDecoder(ours.model), ours.tokenizer, [Prompt("", tuple(ids[0].tolist()))], sampling
    )
    (sample,) = [event for event in events if isinstance(event, Sample)]
    assert len(set(expected)) > 10
    assert list(sample.ids) == expected


@pytest.mark.parametrize(
    "variant",
    [
        "llama, biases of the feed-forward part",
        "mistral, a window",
        "qwen2, tied, one head of keys",
        "qwen3, a width that heads do not divide",
        "smollm3, untied, biases",
    ],
)
def test_what_is_fine_tuned_stays_what_it_was(variant: str, tmp_path: Path) -> None:
    theirs = theirs_of(variant, tmp_path / "theirs")
    (tmp_path / "text.txt").write_text("Once upon a time there was a cat.\n" * 40, encoding="utf-8")
    shape = ("--context", 16, "--batch-size", 2, "--steps", 2, "--compile", "off", "--optimizer", "muon")
    start = ("--init-from", tmp_path / "theirs", "--out", tmp_path / "runs", "--name", "tuned", "--quiet")
    assert run([*map(str, ("train", tmp_path / "text.txt", *start, *shape))]) == 0
    place = tmp_path / "runs" / "tuned-001" / "best"
    again = AutoModelForCausalLM.from_pretrained(place).eval()
    assert described(again.config) == described(theirs.config)
    ours, ids = opened(place), random_ids(1, 20)
    with torch.no_grad():
        torch.testing.assert_close(ours.model(ids), again(ids).logits, atol=1e-4, rtol=0)
        assert not torch.allclose(again(ids).logits, theirs(ids).logits, atol=1e-2)


# --- Rotation -----------------------------------------------------------------------------------------------


OLD_AND_NEW: dict[str, dict[str, Any]] = {
    "nothing": {},
    "old theta": {"rope_theta": 500.0},
    "new theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "new theta without a type": {"rope_parameters": {"rope_theta": 500.0}},
    "no scaling": {"rope_theta": 500.0, "rope_scaling": None},
    "old linear": {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "linear of between": {"rope_scaling": {"rope_type": "linear", "factor": 2}},
    "new linear": {"rope_parameters": LINEAR},
    "old llama3": {
        "rope_theta": 500.0,
        "rope_scaling": {name: value for name, value in LLAMA3.items() if name != "rope_theta"},
    },
    "llama3 of the whole context": {
        "rope_parameters": {
            name: value for name, value in LLAMA3.items() if name != "original_max_position_embeddings"
        }
    },
    "llama3 with its context beside": {"rope_parameters": LLAMA3, "original_max_position_embeddings": 9},
    "both": {"rope_theta": 700.0, "rope_scaling": {"rope_type": "linear", "factor": 3.0}}
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
}


def assert_same_rotation(raw: dict[str, Any]) -> None:
    """Compare our tables with transformers' of the same `config.json`, and of the one that we write."""
    config = hf.from_config(json.loads(json.dumps({"model_type": "llama", **SMALL, **raw})))
    cos, sin = rotary_tables(config)
    for again in (raw, {name: hf.to_config(config)[name] for name in ROPE}):
        theirs = LlamaRotaryEmbedding(transformers.LlamaConfig(**(SMALL | json.loads(json.dumps(again)))))
        their_cos, their_sin = theirs(torch.zeros(1), torch.arange(config.context)[None])
        torch.testing.assert_close(cos, their_cos[0, :, :4], atol=1e-5, rtol=0)
        torch.testing.assert_close(-sin, their_sin[0, :, :4], atol=1e-5, rtol=0)


ROPE = ("rope_theta", "rope_scaling", "rope_parameters")


@pytest.mark.parametrize("how", OLD_AND_NEW)
def test_old_and_new_names_of_the_rotation_are_read_and_written(how: str) -> None:
    assert_same_rotation(OLD_AND_NEW[how])


@settings(max_examples=60)
@given(
    theta=st.floats(2.0, 1e7),
    factor=st.floats(1.0, 64.0),
    low=st.floats(0.1, 3.0),
    wider=st.floats(0.1, 8.0),
    original=st.integers(1, 40),
)
def test_any_scaling_is_that_of_transformers(
    theta: float, factor: float, low: float, wider: float, original: int
) -> None:
    linear = {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    own = linear | {"rope_type": "llama3", "low_freq_factor": low, "high_freq_factor": low + wider}
    assert_same_rotation({"rope_parameters": linear})
    assert_same_rotation({"rope_parameters": own | {"original_max_position_embeddings": original}})


def test_far_positions_are_rotated_as_in_transformers() -> None:
    """Llama 3.2's own numbers: a frequency that rounding changed would be another angle out there."""
    rope = LLAMA3 | {"rope_theta": 500000.0, "factor": 32.0, "original_max_position_embeddings": 8192}
    raw = SMALL | {"head_dim": 64, "max_position_embeddings": 131072, "rope_parameters": rope}
    config = hf.from_config({"model_type": "llama", **raw})
    cos, sin = rotary_tables(config)
    theirs = LlamaRotaryEmbedding(transformers.LlamaConfig(**raw))
    places = torch.tensor([0, 1, 1000, 8192, 50000, 131071])
    their_cos, their_sin = theirs(torch.zeros(1), places[None])
    torch.testing.assert_close(cos[places], their_cos[0, :, :32], atol=1e-3, rtol=0)
    torch.testing.assert_close(-sin[places], their_sin[0, :, :32], atol=1e-3, rtol=0)


# --- What cannot be -----------------------------------------------------------------------------------------


def read(kind: str = "llama", **changes: Any) -> Any:
    config = KINDS[kind](**(SMALL | {"head_dim": 8})).to_dict()
    for name in ROPE if set(changes) & set(ROPE) else ():
        config.pop(name, None)
    return hf.from_config(config | changes)


REFUSED: dict[str, dict[str, Any]] = {
    "a mixture of experts": {"model_type": "mixtral", "num_local_experts": 8},
    "'qwen3_moe', a mixture of experts": {"model_type": "qwen3_moe", "num_experts": 128},
    "'llava', which takes more than text": {"model_type": "llava", "vision_config": {}},
    "'t5', an encoder and a decoder": {"model_type": "t5", "is_encoder_decoder": True},
    "of type 'gemma'$": {"model_type": "gemma"},
    r"of type \['llama'\]": {"model_type": ["llama"]},
    "a 'LlamaForSequenceClassification', which does not predict": {
        "architectures": ["LlamaForSequenceClassification"]
    },
    "the weights are quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "rope_type = 'yarn' is not supported, only default, linear and llama3": {
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0}
    },
    "rope_type = 'dynamic'": {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
    "rope_type = 'longrope'": {"rope_scaling": {"rope_type": "longrope", "long_factor": [1.0]}},
    "a rotation of its own for 'full_attention'": {
        "rope_parameters": {"full_attention": {"rope_type": "default"}}
    },
    "partial_rotary_factor = 0.5": {"partial_rotary_factor": 0.5},
    "partial_rotary_factor = 0.25": {"rope_parameters": {"partial_rotary_factor": 0.25}},
    "factor must be a number, and there is none": {"rope_scaling": {"type": "linear"}},
    "factor of rope scaling must be at least 1 and below 1e6, not 0": {
        "rope_scaling": {"type": "linear", "factor": 0}
    },
    "at least 1 and below 1e6, not -4": {"rope_scaling": {"type": "linear", "factor": -4.0}},
    "factor must be a number, not 'a'": {"rope_scaling": {"type": "linear", "factor": "a"}},
    "rope_scaling must be an object": {"rope_scaling": [1]},
    "rope_type must be a text": {"rope_parameters": {"rope_type": 3}},
    "low_freq_factor must be above 0 and below high_freq_factor": {
        "rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}
    },
    "low_freq_factor must be above 0": {"rope_parameters": LLAMA3 | {"low_freq_factor": 0}},
    "high_freq_factor must be a number": {"rope_parameters": LLAMA3 | {"high_freq_factor": None}},
    "original_max_position_embeddings must be a positive": {
        "rope_parameters": LLAMA3 | {"original_max_position_embeddings": 0}
    },
    "rope_theta must be between 1 and 1e12": {"rope_theta": 0.0, "rope_parameters": None},
    "rope_theta must be a number": {"rope_theta": "big", "rope_parameters": None},
    "head_dim must be a positive whole number, not 0": {"head_dim": 0},
    "head_width must be at least 1, not 0": {"head_dim": None, "num_attention_heads": 64},
    "rotary positions need an even head width, not 7": {"head_dim": 7},
    "4 heads cannot share 3": {"num_key_value_heads": 3},
    "rms_norm_eps must be a number": {"rms_norm_eps": None},
    "unknown activation 'swiglu'": {"hidden_act": "swiglu"},
    "attention_bias must be true or false": {"attention_bias": 1},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_mygpt_does_not_have_is_refused_with_the_reason(message: str) -> None:
    read()
    with pytest.raises(CheckpointError, match=message):
        read(**REFUSED[message])


@pytest.mark.parametrize(
    ("kind", "message", "changes"),
    [
        ("mistral", "sliding_window must be a positive", {"sliding_window": 0}),
        ("qwen2", "without a sliding_window in use", {"layer_types": ["sliding_attention"] * 4}),
        (
            "qwen3",
            "'linear_attention' in layer_types is not supported",
            {"layer_types": ["linear_attention"] * 4},
        ),
        (
            "qwen3",
            "layer_types must be a list with an entry for each layer",
            {"layer_types": ["full_attention"]},
        ),
        ("smollm3", "2 in no_rope_layers is not supported", {"no_rope_layers": [1, 1, 1, 2]}),
        ("smollm3", "no_rope_layer_interval must be", {"no_rope_layers": None, "no_rope_layer_interval": 0}),
    ],
)
def test_layers_that_mygpt_does_not_have_are_refused(
    kind: str, message: str, changes: dict[str, Any]
) -> None:
    read(kind)
    with pytest.raises(CheckpointError, match=message):
        read(kind, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_without_number_are_refused_before_any_is_listed(kind: str) -> None:
    changes = {"num_hidden_layers": 2**31 - 1, "layer_types": None, "no_rope_layers": None}
    with pytest.raises(CheckpointError, match="layers must be at most 1,000"):
        read(kind, **WINDOW, **changes)


def test_a_refusal_names_the_models_that_open() -> None:
    with pytest.raises(CheckpointError) as refused:
        read(model_type="gemma")
    assert all(name in refused.value.hint for name in ARCHITECTURES)


def test_a_configuration_that_contradicts_the_tensors_is_refused(tmp_path: Path) -> None:
    theirs_of("qwen3, wide heads", tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(raw | {"head_dim": 8}), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"'model.layers.0.self_attn.q_proj.weight' has shape \(64, 32\)"
    ):
        checkpoint.load(tmp_path)
    path.write_text(json.dumps(raw | {"model_type": "llama"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"'model.layers.0.self_attn.k_norm.weight' does not belong"):
        checkpoint.load(tmp_path)


# --- What is cut, and said ----------------------------------------------------------------------------------


def test_a_context_beyond_what_mygpt_can_use_is_cut_and_said() -> None:
    config = read(max_position_embeddings=10_000_000)
    assert (config.context, config.full_context) == (LONGEST_CONTEXT, 10_000_000)
    assert read(max_position_embeddings=131_072, head_dim=128).full_context == 0
    config = read(max_position_embeddings=1_024_000, head_dim=128)
    assert (config.context, config.full_context) == (131_072, 1_024_000)
    assert hf.to_config(config)["max_position_embeddings"] == 1_024_000
    (note,) = hf.notes(config)
    assert "made for contexts of 1,024,000 tokens; mygpt uses 131,072 at most" in note


def test_old_files_may_hold_the_rotation_and_a_bare_model_has_no_prefix(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs = theirs_of("llama, tied", tmp_path)
    path = tmp_path / "model.safetensors"
    bare = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items()}
    extra = {"layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(bare | extra, path, metadata={"format": "pt"})
    ids = random_ids(1, 9)
    with torch.no_grad():
        torch.testing.assert_close(opened(tmp_path).model(ids), theirs(ids).logits, atol=1e-4, rtol=0)


# --- Trained from a text ------------------------------------------------------------------------------------


def test_the_feed_forward_part_has_as_many_numbers_as_a_plain_one() -> None:
    shape: dict[str, Any] = {"vocab_size": 64, "layers": 2, "heads": 4, "context": 16}
    for width, wide in ((64, 192), (128, 352), (384, 1024), (768, 2048)):
        assert configure("llama", width=width, **shape).mlp_width == wide
    assert configure("llama", width=64, mlp_width=100, **shape).mlp_width == 100
    assert configure("nanochat", width=64, **shape).mlp_width == 256


@pytest.mark.parametrize(
    ("kind", "parts", "message"),
    [
        ("llama", {"attention_bias": True}, "in all of attention or nowhere"),
        ("llama", {"qk_norm": "before"}, "llama models have qk_norm = 'none', not 'before'"),
        ("llama", {"softcap": 15.0}, "llama models have softcap = 0.0"),
        ("llama", {"rope_clockwise": True}, "llama models have rope_clockwise = False"),
        ("mistral", {"attention_bias": True}, "mistral models have attention_bias = False"),
        ("qwen2", {"attention_bias": False}, "qwen2 models have attention_bias = True"),
        ("qwen3", {"qk_norm_gain": False}, "qwen3 models have qk_norm_gain = True"),
        ("qwen3", {"windowed": (1,)}, "window must be at least 1 where layers are windowed, not 0"),
        ("smollm3", {"unrotated": (2,)}, "must name layers that there are"),
    ],
)
def test_parts_that_a_kind_does_not_have_are_faults(kind: str, parts: dict[str, Any], message: str) -> None:
    shape: dict[str, Any] = {"vocab_size": 64, "layers": 2, "heads": 4, "width": 32, "context": 16}
    with pytest.raises(UsageError, match=message):
        configure(kind, **shape, **parts)


def test_smollm2_and_qwen3_have_their_parameters() -> None:
    """SmolLM2 135M and Qwen3 0.6B by the numbers of their configurations."""
    rows = (
        ("llama", (49152, 30, 9, 3, 0, 576, 1536), 134_515_008),
        ("qwen3", (151936, 28, 16, 8, 128, 1024, 3072), 596_049_920),
    )
    names = ("vocab_size", "layers", "heads", "kv_heads", "head_width", "width", "mlp_width")
    for arch, sizes, expected in rows:
        shape: dict[str, Any] = dict(zip(names, sizes, strict=True))
        config = configure(arch, tied=True, context=8192, **shape)
        with torch.device("meta"):
            assert sum(p.numel() for p in GPT(config).parameters()) == expected
