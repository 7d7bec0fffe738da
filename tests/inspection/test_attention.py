"""Heads: what their weights are called, and what becomes of the answer without them."""

import copy

import pytest
import torch

from mygpt_cli.base.errors import UsageError
from mygpt_cli.inspection.attention import measure, view_attention
from mygpt_cli.inspection.trace import heads_of, layers_of, trace
from tests.helpers.standins import byte_tokenizer, random_model

IDS = tuple(b"abcabcab")


def looking_at(*targets: int) -> torch.Tensor:
    """Return weights of which row i is all on the i-th target."""
    return torch.eye(len(targets))[list(targets)]


@pytest.mark.parametrize(
    ("targets", "kind"),
    [
        ((0, 0, 1, 2, 3, 4, 5, 6), "previous_token"),
        ((0, 0, 0, 0, 0, 0, 0, 0), "first_token"),
        ((0, 1, 2, 0, 1, 2, 3, 4), "same_token"),
        ((0, 1, 2, 1, 2, 3, 4, 5), "induction"),
        ((0, 1, 2, 3, 4, 5, 6, 7), "itself"),
    ],
)
def test_a_head_that_does_one_thing_is_called_by_it(targets: tuple[int, ...], kind: str) -> None:
    measures = vars(measure(looking_at(*targets)[None], IDS)[0])
    assert measures[kind] == 1.0
    assert max(measures, key=lambda name: measures[name]) == kind


def test_shares_are_means_over_the_places_there_are() -> None:
    even = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    # Of "abca", the last token alone has an equal one before it, and one that followed that.
    found = measure(even[None], tuple(b"abca"))[0]
    assert found.previous_token == found.first_token == found.itself == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert found.same_token == found.induction == pytest.approx(1 / 4)
    assert measure(even[None, :3, :3], tuple(b"abc"))[0].same_token is None
    assert set(vars(measure(even[None, :2, :2], tuple(b"aa"))[0]).values()) == {None}


def test_shares_are_of_places_that_a_window_shows() -> None:
    """Only three rows see the first token; an even head looks at it as at the two others that they see."""
    seen = torch.ones(6, 6).tril().triu(-2)
    even = seen / seen.sum(1, keepdim=True)
    found = measure(even[None], tuple(b"abcdea"), window=3)[0]
    assert found.first_token == pytest.approx(1 / 3)
    assert found.same_token is None


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_all_heads_are_measured_and_the_strongest_drawn(arch: str) -> None:
    model = random_model(257, arch=arch)
    found = trace(model, IDS)
    view = view_attention(found, byte_tokenizer())
    probs = model(torch.tensor([IDS]))[0, -1].double().softmax(-1)
    assert view.answer == int(probs.argmax())
    assert view.probability == pytest.approx(float(probs.max()), abs=1e-6)
    assert [(h.layer, h.head) for h in view.heads] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for head in view.heads:
        changed = copy.deepcopy(model)
        columns = slice(8 * head.head - 8, 8 * head.head)
        layers_of(changed)[head.layer - 1].attention.out.weight[:, columns] = 0
        expected = float(changed(torch.tensor([IDS]))[0, -1].double().softmax(-1)[view.answer])
        assert head.probability == pytest.approx(expected, abs=1e-6)
        assert head.weights == pytest.approx(
            heads_of(found, head.layer - 1).weights[head.head - 1, -1].tolist()
        )
        assert sum(head.weights) == pytest.approx(1)
        assert head.named == (head.share is not None and head.share > 0.5)
    (heat,) = view.maps
    change = {(h.layer, h.head): abs(h.probability - view.probability) for h in view.heads}
    assert change[heat.layer, heat.head] == max(change.values())
    assert [len(row) for row in heat.weights] == list(range(1, 9))
    # What the heads of a layer write, and its bias, is what its attention adds.
    for layer in (1, 2):
        (part,) = (p for p in view.contributions.parts if (p.part, p.layer) == ("attention", layer))
        written = sum(h.logit for h in view.heads if h.layer == layer)
        if arch == "nanochat":  # no biases
            assert written == pytest.approx(part.logit, abs=1e-5)


def test_heads_are_chosen_by_layer_and_number() -> None:
    found = trace(random_model(257), IDS)
    some = view_attention(found, byte_tokenizer(), layer=2)
    assert [(h.layer, h.head) for h in some.heads] == [(2, 1), (2, 2)]
    assert [(m.layer, m.head) for m in some.maps] == [(2, 1), (2, 2)]
    every = view_attention(found, byte_tokenizer(), head=2)
    assert [(h.layer, h.head) for h in every.heads] == [(1, 2), (2, 2)]
    for layer, head in ((0, 1), (3, 1), (1, 3)):
        with pytest.raises(UsageError, match=r"the model has (layers|heads) 1 to 2"):
            view_attention(found, byte_tokenizer(), layer=layer, head=head)
