"""The history of a run: each kept checkpoint against softmax and norms by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mygpt_cli.checkpoints.checkpoint import Checkpoint, load
from mygpt_cli.inspection.compare import compare
from mygpt_cli.inspection.kept import moment_of
from mygpt_cli.inspection.surprisal import surprisal
from tests.helpers.standins import random_checkpoint


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Checkpoint, Checkpoint]:
    """Return a checkpoint and one that has moved away from it, each layer in its own way."""
    first, other = (load(random_checkpoint(tmp_path / name)) for name in ("first", "other"))
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    return first, other


def test_the_answer_by_hand(pair: tuple[Checkpoint, Checkpoint]) -> None:
    first, other = pair
    prompt = tuple(first.tokenizer.encode("The cat"))
    moment = moment_of(compare(first, other, prompt=prompt, top=1))
    ids = torch.tensor([prompt])
    p, q = (torch.softmax(side.model(ids)[0, -1].detach().double(), -1) for side in pair)
    assert moment.answer is not None
    assert moment.says is not None
    assert moment.answer.id == int(p.argmax())
    assert moment.answer.other_probability == pytest.approx(float(q[moment.answer.id]), rel=1e-4)
    assert moment.says.id == int(q.argmax())
    assert moment.says.other_probability == pytest.approx(float(q.max()), rel=1e-4)
    wanted = sum(a * math.log2(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert moment.divergence == pytest.approx(wanted, rel=1e-4)
    assert moment.bits_per_byte is None


def test_losses_are_those_of_each(pair: tuple[Checkpoint, Checkpoint]) -> None:
    first, other = pair
    ids = np.array(first.tokenizer.encode("The cat sat on the mat."))
    mine, theirs = (surprisal(side.model, side.tokenizer, ids) for side in pair)
    moment = moment_of(compare(first, other, texts=(mine, theirs)))
    assert (moment.bits_per_byte, moment.nats_per_token) == (theirs.bits_per_byte, theirs.nats_per_token)
    assert (moment.answer, moment.says, moment.step) == (None, None, 7)


def test_distances_of_parts_are_those_of_all_their_numbers(pair: tuple[Checkpoint, Checkpoint]) -> None:
    first, other = pair
    moment = moment_of(compare(first, other))
    mine, theirs = (dict(side.model.named_parameters()) for side in pair)
    of = {
        "token embedding": ["embedding"],
        "position embedding": ["positions"],
        "attention": [name for name in mine if ".attention." in name],
        "feed-forward": [name for name in mine if ".mlp." in name],
        "norms": [name for name in mine if "norm." in name],
    }
    assert {part.name for part in moment.parts} == set(of)
    assert sum(map(len, of.values())) == len(mine)
    for part in moment.parts:
        a, b = (
            torch.cat([side[name].detach().flatten() for name in of[part.name]]) for side in (mine, theirs)
        )
        assert part.distance == pytest.approx(float((b - a).norm()), rel=1e-5)
        assert part.share == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-5)
    assert {part.share for part in moment_of(compare(first, first)).parts} == {0.0}
