"""The trace against the model's own forward pass, transformers, and a model whose weights were changed."""

import copy

import pytest
import torch

from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints import hf
from mygpt_cli.inspection.trace import Trace, heads_of, layers_of, logits_of, trace, without_heads
from mygpt_cli.model.gpt import GPT
from tests.helpers.models import IDS, VARIANTS, random_model


def traced(variant: str, ids: tuple[int, ...] = IDS) -> tuple[GPT, Trace]:
    model = random_model(**VARIANTS[variant])
    return model, trace(model, ids)


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_logits_are_those_of_the_model(variant: str) -> None:
    model, found = traced(variant)
    with torch.no_grad():
        expected = model(torch.tensor([IDS]))[0].double()
    torch.testing.assert_close(logits_of(found, found.streams[-1]), expected, atol=1e-5, rtol=0)
    assert not found.streams[-1].requires_grad
    # Only the last context is seen, as in generation.
    longer = trace(model, (1, 2, 3, *IDS))
    assert longer.ids == IDS
    assert torch.equal(longer.streams[-1], found.streams[-1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_streams_and_weights_are_those_of_transformers(variant: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model, found = traced(variant)
    config = AutoConfig.for_model(**hf.to_config(model.config, None))
    theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    theirs.load_state_dict(hf.to_tensors(model), strict=False)
    with torch.no_grad():
        out = theirs(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    for stream, expected in zip(found.streams[:-1], out.hidden_states[:-1], strict=True):
        torch.testing.assert_close(stream, expected[0], atol=1e-5, rtol=0)
    for layer, expected in enumerate(out.attentions):
        weights = heads_of(found, layer).weights
        torch.testing.assert_close(weights, expected[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(weights.sum(-1), torch.ones(4, 24), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stream_is_the_sum_of_what_was_written(variant: str) -> None:
    _, found = traced(variant)
    total = sum([*found.embedded.values(), *found.attention, *found.mlp])
    torch.testing.assert_close(found.streams[-1], total, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_removed_head_is_one_whose_columns_are_zero(variant: str) -> None:
    model, found = traced(variant)
    for layer in range(2):
        logits = without_heads(found, layer, [0, 1, 3])
        for row, head in zip(logits, (0, 1, 3), strict=True):
            changed = copy.deepcopy(model)
            with torch.no_grad():
                layers_of(changed)[layer].attention.out.weight[:, head * 8 : (head + 1) * 8] = 0
                expected = changed(torch.tensor([IDS]))[0, -1].double()
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
            assert not torch.allclose(row, logits_of(found, found.streams[-1][-1]), atol=1e-5)


def test_a_broken_model_is_named() -> None:
    model = random_model(arch="gpt2")
    layers_of(model)[1].mlp.down.weight.data[:] = torch.nan
    with pytest.raises(MygptError, match="layer 2 of 2"):
        trace(model, IDS)
