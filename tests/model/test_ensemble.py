"""Models side by side, against the mean of what each of them says."""

import pytest
import torch

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.model.ensemble import join, joined_config
from mygpt_cli.model.gpt import GPT
from tests.helpers.models import IDS, VARIANTS, random_model

ALONE = "nanochat, no cap, tied, biases"


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


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != ALONE])
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
    with pytest.raises(ValueError, match="no gain before it"):
        join([random_model(**VARIANTS[ALONE])] * 2)
    first, other = (random_model(**VARIANTS["qwen3"]) for _ in range(2))
    with torch.no_grad():
        other.get_parameter("blocks.0.attention.key_norm.weight").add_(1)
    with pytest.raises(ValueError, match="shared by all heads"):
        join([first, other])
