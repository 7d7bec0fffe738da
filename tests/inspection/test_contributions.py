"""Contributions sum to the logit, and each is what the head sees of its part."""

import pytest
import torch

from mygpt_cli.inspection.contributions import contributions, direction_of
from mygpt_cli.inspection.trace import trace
from tests.helpers.models import IDS, VARIANTS, random_model


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_sum_to_the_logit_and_to_the_lead(variant: str) -> None:
    model = random_model(**VARIANTS[variant])
    with torch.no_grad():
        logits, order = model(torch.tensor([IDS]))[0, -1].sort(descending=True)
    found = contributions(trace(model, IDS))
    assert (found.answer, found.rival) == tuple(order[:2].tolist())
    assert found.logit == pytest.approx(float(logits[0]), abs=1e-5)
    assert sum(part.logit for part in found.parts) == pytest.approx(float(logits[0]), abs=1e-5)
    assert sum(part.lead for part in found.parts) == pytest.approx(float(logits[0] - logits[1]), abs=1e-5)
    for whole, name in ((found.logit, "logit"), (found.lead, "lead")):
        total = sum(getattr(part, name) for part in (*found.parts, found.rounding))
        assert total == pytest.approx(whole, abs=1e-12)
    assert abs(found.rounding.logit) < 1e-5
    names = [part.part for part in found.parts]
    assert names.count("attention") == names.count("feed-forward") == 2
    assert ("position embedding" in names) == (model.positions is not None)
    assert ("soft cap" in names) == bool(model.config.softcap)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_part_changes_the_logit_as_the_norm_with_its_scale_frozen_lets_it(variant: str) -> None:
    """The slope of the logit along a part, less what changes the scale: along the stream, nothing remains."""
    model = random_model(**VARIANTS[variant]).double()
    stream = trace(random_model(**VARIANTS[variant]), IDS).streams[-1][-1].double()
    direction, bias = direction_of(model, stream, 7)
    weight = model.embedding if model.head is None else model.head.weight
    with torch.no_grad():
        uncapped = float(model.norm(stream) @ weight[7])
    assert float(direction @ stream) + bias == pytest.approx(uncapped, abs=1e-9)
    # A change that leaves mean and size of the stream as they are changes the logit by just that.
    centred = stream - stream.mean() if model.norm.weight is not None else stream
    change = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    change -= change.mean() if model.norm.weight is not None else 0
    change -= (change @ centred) / (centred @ centred) * centred
    with torch.no_grad():
        moved = float(model.norm(stream + 1e-6 * change) @ weight[7])
    assert (moved - uncapped) / 1e-6 == pytest.approx(float(direction @ change), abs=1e-4)
