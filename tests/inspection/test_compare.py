"""Two checkpoints side by side."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mygpt_cli.checkpoints import saving
from mygpt_cli.checkpoints.checkpoint import Checkpoint, load
from mygpt_cli.inspection.compare import compare, same_tokenizer
from mygpt_cli.inspection.surprisal import surprisal
from tests.helpers.standins import byte_tokenizer, random_checkpoint, random_model


@pytest.fixture
def first(tmp_path: Path) -> Checkpoint:
    return load(random_checkpoint(tmp_path / "first"))


def test_a_checkpoint_and_itself(first: Checkpoint) -> None:
    ids = np.array(first.tokenizer.encode("The cat sat on the mat."))
    view = surprisal(first.model, first.tokenizer, ids)
    same = compare(first, first, prompt=tuple(ids.tolist()), texts=(view, view))
    assert same.same_tokens
    assert same.changes is not None
    assert not same.changes.any()
    assert same.divergence == 0
    assert {shift.change for shift in same.next} == {0.0}
    assert {(tensor.distance, tensor.cosine) for tensor in same.tensors} <= {(0.0, 1.0), (0.0, None)}
    assert same.unlike == ()
    assert same.sides[0] == same.sides[1]
    assert same.sides[0].step == 7


def test_the_next_token_by_hand(first: Checkpoint, tmp_path: Path) -> None:
    other = load(random_checkpoint(tmp_path / "other"))
    with torch.no_grad():
        other.model.embedding.mul_(0.5)
    prompt = tuple(first.tokenizer.encode("The cat"))
    view = compare(first, other, prompt=prompt, top=4)
    ids = torch.tensor([prompt])
    p, q = (torch.softmax(side.model(ids)[0, -1].detach().double(), -1) for side in (first, other))
    assert {shift.id for shift in view.next} == {*p.topk(4).indices.tolist(), *q.topk(4).indices.tolist()}
    for shift in view.next:
        assert shift.probability == pytest.approx(float(p[shift.id]), rel=1e-4)
        assert shift.other_probability == pytest.approx(float(q[shift.id]), rel=1e-4)
        assert shift.token == first.tokenizer.token_bytes(shift.id)
    wanted = sum(a * math.log2(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert view.divergence == pytest.approx(wanted, rel=1e-4)
    assert [tensor.name for tensor in view.tensors if tensor.distance] == ["embedding"]


def test_other_tokenizers_leave_bits_per_byte(first: Checkpoint, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    folder = tmp_path / "bytes"
    saving.save(folder, model=random_model(257), tokenizer=tokenizer, state={})
    other = load(folder)
    assert not same_tokenizer(first, other)
    texts = [
        surprisal(side.model, side.tokenizer, np.array(side.tokenizer.encode("The cat")))
        for side in (first, other)
    ]
    view = compare(first, other, prompt=(1, 2), texts=(texts[0], texts[1]))
    assert (view.same_tokens, view.changes, view.next, view.divergence) == (False, None, (), None)
    assert "embedding" in view.unlike
    assert view.tensors


def test_the_standard_error_is_what_resampling_says(first: Checkpoint, tmp_path: Path) -> None:
    other = load(random_checkpoint(tmp_path / "other"))
    with torch.no_grad():
        other.model.embedding.mul_(0.5)
    ids = np.array(first.tokenizer.encode("".join(f"The cat sat on mat {n}. " for n in range(40))))
    texts = tuple(surprisal(side.model, side.tokenizer, ids) for side in (first, other))
    view = compare(first, other, texts=(texts[0], texts[1]))
    assert view.changes is not None
    assert view.standard_error is not None
    rng = np.random.default_rng(1)
    drawn = rng.choice(view.changes, (4000, len(view.changes))).sum(axis=1) / texts[0].bytes
    assert view.standard_error == pytest.approx(drawn.std(), rel=0.05)
    apart = replace(view, same_tokens=False).standard_error
    assert apart is not None
    both = [rng.choice(text.bits, (4000, len(text.bits))).sum(axis=1) for text in texts]
    assert apart == pytest.approx((both[1] - both[0]).std() / texts[0].bytes, rel=0.05)


def test_a_short_text_says_nothing_of_which_is_better(first: Checkpoint) -> None:
    ids = np.array(first.tokenizer.encode("The cat sat"))
    view = surprisal(first.model, first.tokenizer, ids)
    assert compare(first, first, texts=(view, view)).standard_error is None
