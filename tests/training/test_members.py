"""What members teach, against the models themselves."""

import pytest
import torch

from mygpt_cli.backends.interfaces import TEACHER_WEIGHT
from mygpt_cli.backends.reference import Autograd
from mygpt_cli.training.members import Members
from tests.helpers.models import random_model


def test_members_teach_the_mean_of_what_they_predict() -> None:
    models = [random_model(arch="nanochat") for _ in range(3)]
    for number, model in enumerate(models):
        model.embedding.data.mul_(1.0 + number)
    learning = random_model(arch="nanochat")
    members = Members(Autograd(learning))
    ids = torch.randint(0, 53, (2, 7), generator=torch.Generator().manual_seed(1))
    assert members.teach(ids) is None
    for model in models:
        members.add(dict(model.named_parameters()))
    with torch.no_grad():
        expected = torch.stack([model(ids).softmax(dim=-1) for model in models]).mean(dim=0)
        models[0].embedding.zero_()  # they have copies of their own
    taught = members.teach(ids)
    assert taught is not None
    torch.testing.assert_close(taught, expected)

    again = Members(Autograd(learning))
    for number in range(len(members)):
        prefix = f"{number}."
        state = members.state().items()
        again.add({n.removeprefix(prefix): tensor for n, tensor in state if n.startswith(prefix)})
    assert torch.equal(again.teach(ids), taught)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        members.add({})


def test_a_teacher_who_predicts_the_same_teaches_nothing() -> None:
    """What is left of the gradient is the text's part of it."""
    model = random_model(arch="gpt2")
    ids, targets = torch.randint(0, 53, (2, 2, 7), generator=torch.Generator().manual_seed(1))
    backend = Autograd(model)
    backend.accumulate_gradients(ids, targets)
    alone = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    backend.accumulate_gradients(ids, targets, teacher=backend.probabilities(ids))
    mixed = [p.grad for p in model.parameters() if p.grad is not None]
    for part, whole in zip(mixed, alone, strict=True):
        torch.testing.assert_close(part, (1 - TEACHER_WEIGHT) * whole, atol=1e-6, rtol=1e-4)
