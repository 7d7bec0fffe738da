"""The step that a GPU captures against the model itself; without a GPU, the same step is taken uncaptured."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.cuda.graph_decoder import LEAST_SPAN, GraphDecoder, step
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.generation.decoding import DecodingState
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.kv_cache import KVCache
from tests.conftest import Command
from tests.helpers.models import VARIANTS, random_model
from tests.helpers.standins import random_checkpoint
from tests.helpers.standins import random_model as standin

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def never(message: str) -> None:
    raise AssertionError(message)


def filled(model: GPT, lengths: list[int], most: int, room: int) -> KVCache:
    """Return a cache that has read a text of each length."""
    cache = model.new_cache(most, max(lengths) + room)
    rng = torch.Generator().manual_seed(sum(lengths))
    cache.select(range(len(lengths)))
    for row, length in enumerate(lengths):
        part = cache.part(slice(row, row + 1))
        ReferenceDecoder(model).prefill(torch.randint(0, 53, (1, length), generator=rng), part)
        cache.lengths[row] = length
    return cache


@settings(max_examples=60)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    lengths=st.lists(
        st.one_of(st.integers(1, 20), st.integers(LEAST_SPAN - 3, LEAST_SPAN + 1)), min_size=1, max_size=5
    ),
    data=st.data(),
)
@torch.inference_mode()
def test_logits_and_cache_are_those_of_the_model(
    variant: str, lengths: list[int], data: st.DataObject
) -> None:
    """At lengths on both sides of the first span, also after rows were left out, doubled and moved."""
    model = random_model(**VARIANTS[variant] | {"context": 2 * LEAST_SPAN})
    one, other = (filled(model, lengths, 6, 8) for _ in range(2))
    captured = GraphDecoder(model, never)
    for index in range(6):
        ids = torch.arange(len(one.lengths)) + index
        expected = ReferenceDecoder(model).decode(ids.tolist(), one)[0]
        torch.testing.assert_close(captured.decode(ids.tolist(), other)[0], expected, atol=1e-5, rtol=1e-5)
        assert other.lengths == one.lengths
        rows = data.draw(st.lists(st.sampled_from(range(len(one.lengths))), min_size=1, max_size=6))
        one.select(rows)
        other.select(rows)
    for row, length in enumerate(one.lengths):
        for mine, its in ((other.keys, one.keys), (other.values, one.values)):
            torch.testing.assert_close(
                mine[:, row, :, :length], its[:, row, :, :length], atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_looks_at_no_number(variant: str) -> None:
    """Tensors without memory have nothing that a branch, a shape or a copy could depend on."""
    model = random_model(**VARIANTS[variant]).to("meta")
    cache = model.new_cache(3)
    inputs = torch.zeros(2, 3, dtype=torch.long, device="meta")
    with torch.inference_mode():
        logits = step(model, cache.keys, cache.values, inputs, 16)
    assert logits.device.type == "meta"
    assert logits.shape == (3, model.config.vocab_size)


@pytest.mark.parametrize("window", ["half", "exact"])
@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_a_reader_goes_on_past_the_context_as_it_does_without(arch: str, window: str) -> None:
    """Prompts of different length, one of them longer than the context; rows that double, move and go."""
    model = standin(50, arch=arch, context=8)
    prompts = torch.full((3, 11), -1)
    for row, length in enumerate((3, 1, 11)):
        prompts[row, -length:] = torch.arange(length)
    decoders = (ReferenceDecoder(model), GraphDecoder(model, never))
    without, reader = (DecodingState(each, prompts, room=30, window=window, most=5) for each in decoders)
    for index in range(30):
        torch.testing.assert_close(reader.logits(), without.logits(), atol=1e-5, rtol=0)
        rows = {2: [0, 1, 2, 2, 0], 9: [4, 0, 3], 20: [2]}.get(index, range(len(without.logits())))
        for each in (reader, without):
            each.select(rows)
            each.append([index + place for place in range(len(rows))])


def test_a_batch_and_a_span_are_prepared_once_and_another_cache_begins_anew() -> None:
    model = random_model(arch="nanochat", context=2 * LEAST_SPAN)
    captured = GraphDecoder(model, never)
    prepared: list[object] = []
    captured._prepared = lambda work: prepared.append(work) or work  # type: ignore[method-assign, func-returns-value]
    for _ in range(2):
        cache = filled(model, [LEAST_SPAN - 2] * 5, 5, 5)
        prepared.clear()
        for count in (5, 5, 5, 4, 3, 1, 1):
            cache.select(range(count))
            if count == 1:
                cache.lengths = [5]
            captured.decode(torch.arange(count).tolist(), cache)[0]
        assert len(prepared) == 4  # all rows in either span, four rows, one row in the first span


def test_a_capture_that_fails_is_said_once_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(arch="gpt2")
    messages: list[str] = []
    captured = GraphDecoder(model, messages.append)
    captured._aside = object()  # type: ignore[assignment]

    def current_stream() -> None:
        raise RuntimeError("operation not permitted\nand more of it")

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    one, other = (filled(model, [3, 5], 2, 4) for _ in range(2))
    for rows in ([0, 1], [0]):
        one.select(rows)
        other.select(rows)
        ids = torch.tensor(rows)
        torch.testing.assert_close(
            captured.decode(ids.tolist(), other)[0], ReferenceDecoder(model).decode(ids.tolist(), one)[0]
        )
    assert messages == ["decoding without a CUDA graph, which is slower: operation not permitted"]


@on_a_gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_a_gpu_captured_logits_are_those_of_the_model(variant: str) -> None:
    """Over two spans, with fewer and fewer rows, and with a second cache while the first is still there."""
    model = random_model(**VARIANTS[variant] | {"context": 2 * LEAST_SPAN}).requires_grad_(False)
    captured = GraphDecoder(model.to("cuda"), never)
    caches = []
    for _ in range(2):
        one, other = (model.new_cache(5) for _ in range(2))
        caches += [one, other]
        for cache in (one, other):
            ReferenceDecoder(model).prefill(
                torch.arange(5, device="cuda")[:, None].expand(5, LEAST_SPAN - 3), cache
            )
        for count in (5, 5, 5, 5, 4, 3, 2, 1):
            for cache in (one, other):
                cache.select(range(count))
            ids = torch.arange(count)
            expected = ReferenceDecoder(model).decode(ids.tolist(), one)[0]
            torch.testing.assert_close(
                captured.decode(ids.tolist(), other)[0], expected, atol=1e-4, rtol=1e-4
            )


@on_a_gpu
def test_on_a_gpu_the_command_writes_the_text_of_the_model(mygpt: Command, tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "model", context=64)
    asked = ("sample", folder, "--prompt", "Once", "--prompt", "The cat sat", "--json", "--temperature", 0)
    texts = []
    for device in ("cuda", "cuda", "cpu"):
        weights = ("--quantize", "none") if device == "cpu" else ()
        done = mygpt(*asked, "--max-new-tokens", 100, "--num-samples", 2, "--device", device, *weights)
        assert done.returncode == 0, done.stderr.decode()
        assert b"CUDA graph" not in done.stderr
        texts.append([json.loads(line)["ids"] for line in done.stdout.splitlines()])
    assert texts[0] == texts[1] == texts[2]
