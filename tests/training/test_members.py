"""What members keep, and what they are together."""

import pytest
import torch

from mygpt_cli.model.ensemble import join
from mygpt_cli.training.members import Members
from tests.helpers.models import IDS, random_model


def test_members_are_copies_and_together_one_model() -> None:
    models = [random_model(arch="nanochat") for _ in range(3)]
    for number, model in enumerate(models):
        model.embedding.data.add_(torch.randn(model.embedding.shape).mul_(0.1 * number))
    *before, training = models
    members = Members(training)
    assert members.together() is training
    assert members.state() == {}
    for model in before:
        members.add(dict(model.named_parameters()))
    ids = torch.tensor([IDS])
    with torch.no_grad():
        expected = join(models)(ids)
        models[0].embedding.zero_()  # they have copies of their own
        assert torch.equal(members.together()(ids), expected)

    again = Members(training)
    for number in range(len(members)):
        prefix = f"{number}."
        state = members.state().items()
        again.add({n.removeprefix(prefix): tensor for n, tensor in state if n.startswith(prefix)})
    with torch.no_grad():
        assert torch.equal(again.together()(ids), expected)
    with pytest.raises(KeyError):
        members.add({})
    wrong = {name: parameter[:1] for name, parameter in training.named_parameters()}
    with pytest.raises(ValueError, match="another shape"):
        members.add(wrong)
