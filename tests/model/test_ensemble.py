"""Models side by side, against the mean of what each of them says."""

import pytest
import torch

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.model.ensemble import join, joined_config
from mygpt_cli.model.gpt import GPT
from tests.helpers.models import IDS, VARIANTS, random_model

ALONE = {name for name, parts in VARIANTS.items() if random_model(**parts).config.joining_fault}


def shuffled(model: GPT, seed: int) -> GPT:
    """Return a model with its channels in another order, and where it has one with another head."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(model.config.width, generator=rng)
    other = GPT(model.config)
    for name, parameter in other.named_parameters():
        own = model.get_parameter(name).detach()
        writes = name.endswith(("out.weight", "out.bias", "down.weight", "down.bias"))
        inside = name.endswith(("qkv.bias", "up.bias", "gate.bias", "query_norm.weight", "key_norm.weight"))
        if name == "head.weight":
            own = torch.randn(own.shape, generator=rng)
        parameter.data.copy_(own if inside else own[order] if writes or own.ndim == 1 else own[:, order])
    return other


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ALONE])
def test_the_logits_are_the_mean(variant: str) -> None:
    """Of models whose channels are alike but in their order, so that a norm measures the same in each."""
    first = random_model(**VARIANTS[variant])
    models = [first, *(shuffled(first, seed) for seed in (1, 2))]
    whole = join(models)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        expected = torch.stack([model.score(model.hidden(ids)) for model in models]).mean(dim=0)
        found = whole.score(whole.hidden(ids))
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)
    assert whole.config == joined_config(first.config, 3)
    assert whole.config.width == 3 * first.config.width
    assert whole.config.head_width == first.config.head_width
    with torch.no_grad():
        assert torch.equal(whole.unembed(whole.hidden(ids)[:, -1]), ReferenceDecoder(whole).prefill(ids))


def test_what_cannot_be_joined() -> None:
    assert {"qwen3", "nanochat, no cap, tied, biases"} == ALONE
    for name in ALONE:
        with pytest.raises(ValueError, match="gain"):
            join([random_model(**VARIANTS[name])] * 2)
