"""Compiled decoding against the model itself, for every variant and kind of weights."""

import math
import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.choice import decoder_for
from mygpt_cli.backends.cpu.decoder import LARGE_PAGE, WEIGHTS, CPUDecoder, allocate, round_weights, takes
from mygpt_cli.backends.cpu.native import compile_library
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.kv_cache import KVCache
from tests.helpers.models import VARIANTS, random_model
from tests.helpers.parts import LIKE_LLAMA, like_llama

MODELS = {name: partial(random_model, **parts) for name, parts in VARIANTS.items()}
MODELS |= {name: partial(like_llama, **parts) for name, parts in LIKE_LLAMA.items()}
MODELS["like llama, exact gelu"] = partial(like_llama, activation="gelu", embedding_norm=True, softcap=9.0)
# Of which each takes any width.
LIKE = [
    like_llama,
    partial(like_llama, kv_heads=1, attention_bias=True),
    partial(like_llama, head_width=12, qk_norm="before", qk_norm_gain=True, tied=False),
]
TAKEN = [name for name, new_model in MODELS.items() if takes(new_model().config)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoder")


def new_decoder(model: GPT, kind: str, folder: Path) -> CPUDecoder:
    return CPUDecoder(model, kind, compile_library("decode", WEIGHTS[kind], folder))


def read(decoder: CPUDecoder, ids: torch.Tensor, cache: KVCache) -> torch.Tensor:
    """Read tokens (B, T); return the logits (B, T, V) after each."""
    return decoder.decode(ids.flatten().tolist(), cache)[0].view(*ids.shape, -1)


def filled(model: GPT, ids: torch.Tensor) -> KVCache:
    cache = model.new_cache(len(ids))
    ReferenceDecoder(model).prefill(ids, cache)
    return cache


@pytest.mark.parametrize("variant", MODELS)
def test_what_compiled_code_does_not_know_is_left_to_the_model(variant: str, folder: Path) -> None:
    model = MODELS[variant]()
    decoder = decoder_for(model, "int8", folder)
    assert isinstance(decoder, CPUDecoder) == (variant in TAKEN)
    rounded = MODELS[variant]()
    round_weights(rounded, "int8")
    for weight, expected in zip(model.parameters(), rounded.parameters(), strict=True):
        assert torch.equal(weight, expected)


def test_only_these_are_left_to_the_model() -> None:
    assert set(MODELS) - set(TAKEN) == {"gpt2, silu, scores by layer"}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("variant", TAKEN)
@torch.inference_mode()
def test_logits_are_those_of_the_model(variant: str, kind: str, folder: Path) -> None:
    model = MODELS[variant]()
    round_weights(model, kind)
    decoder = new_decoder(model, kind, folder)
    ids = torch.randint(0, 53, (5, 20), generator=torch.Generator().manual_seed(1))
    one, other = filled(model, ids[:, :3]), filled(model, ids[:, :3])
    for t in range(3, 20):
        expected, _ = ReferenceDecoder(model).decode(ids[:, t].tolist(), one)
        torch.testing.assert_close(
            decoder.decode(ids[:, t].tolist(), other)[0], expected, atol=1e-5, rtol=1e-5
        )
    assert other.length == 20
    torch.testing.assert_close(other.keys, one.keys, atol=1e-5, rtol=1e-5)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(WEIGHTS)),
    new_model=st.sampled_from([partial(random_model, arch=arch) for arch in ("gpt2", "nanochat")] + LIKE),
    width=st.sampled_from([10, 20, 32, 36]),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    times=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
@torch.inference_mode()
def test_a_sequence_is_the_same_bits_alone_or_among_others_and_one_or_several_tokens_at_once(
    folder: Path,
    kind: str,
    new_model: Callable[..., GPT],
    width: int,
    lengths: list[int],
    times: list[int],
) -> None:
    model = new_model(width=width, heads=2 if width % 4 == 0 else 1, mlp_width=3 * width + 1, context=40)
    decoder = new_decoder(model, kind, folder)
    ids = torch.randint(0, 53, (len(lengths), 40), generator=torch.Generator().manual_seed(sum(lengths)))
    together = model.new_cache(len(lengths) + 1)
    together.select(range(len(lengths)))
    alone = []
    for row, length in enumerate(lengths):
        cache, logits = model.new_cache(1), []
        for t in range(length + sum(times)):
            if t == length:
                together.keys[:, row], together.values[:, row] = cache.keys[:, 0], cache.values[:, 0]
            logits.append(read(decoder, ids[row : row + 1, t : t + 1], cache))
        alone.append(torch.cat(logits[length:], dim=1))  # (1, sum of times, V)
    together.lengths = list(lengths)
    parts = []
    for time in times:
        unread = [row[n : n + time] for row, n in zip(ids, together.lengths, strict=True)]
        parts.append(read(decoder, torch.stack(unread), together))
    assert torch.equal(torch.cat(parts, dim=1), torch.cat(alone))
    for row, length in enumerate(together.lengths):
        assert length == lengths[row] + sum(times)


@settings(max_examples=60)
@given(copies=st.lists(st.integers(0, 52), max_size=4), seed=st.integers(0, 99))
@torch.inference_mode()
def test_the_best_token_is_the_first_of_the_best(folder: Path, copies: list[int], seed: int) -> None:
    model = random_model(arch="gpt2")
    model.embedding[copies] = 3 * model.embedding[seed % 53]  # several equally good ones
    decoder = new_decoder(model, "float32", folder)
    ids = torch.randint(0, 53, (3, 2), generator=torch.Generator().manual_seed(seed))
    whole = read(decoder, ids, model.new_cache(3)).flatten(0, 1)
    logits, best = decoder.decode(ids.flatten().tolist(), model.new_cache(3))
    assert torch.equal(logits, whole)
    assert best == logits.argmax(dim=-1).tolist()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 52])  # in vectors of 16 and after them
@torch.inference_mode()
def test_there_is_no_best_token_where_logits_are_not_finite(folder: Path, value: float, place: int) -> None:
    model = random_model(arch="nanochat", softcap=0.0)
    assert model.head is not None
    model.head.weight[place] = value
    decoder = new_decoder(model, "float32", folder)
    assert decoder.decode([1, 2], model.new_cache(2))[1] == [-1, -1]


@pytest.mark.parametrize("kind", WEIGHTS)
def test_rounding_is_done_once(kind: str) -> None:
    model, before = random_model(arch="gpt2"), random_model(arch="gpt2")
    round_weights(model, kind)
    once = {name: p.clone() for name, p in model.named_parameters()}
    round_weights(model, kind)
    for (name, p), original in zip(model.named_parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(p, once[name], rtol=1e-6, atol=0, msg=name)
        step = {"float32": 0.0, "bfloat16": 2**-8, "int8": 0.5 / 127}[kind]
        most = original.abs().amax(dim=-1, keepdim=True) if p.ndim == 2 else original.abs()
        assert ((p - original).abs() <= step * 1.001 * most).all(), name


def test_a_kernel_without_large_pages_gives_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(mmap.mmap):
        def madvise(self, *arguments: int) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    numbers = allocate(torch.empty(LARGE_PAGE, dtype=torch.uint8, device="meta"))
    assert numbers.fill_(7).sum() == 7 * LARGE_PAGE
