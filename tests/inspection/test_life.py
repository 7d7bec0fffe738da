"""The stages of a token's life: against the model's own pass, transformers, and sums by hand."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import UsageError
from mygpt_cli.checkpoints.checkpoint import load
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt, read_prompt
from mygpt_cli.inspection.life import LifeView, Stage, merges_of, view_life
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_json import BytePairVocabulary
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.models import SHAPE, VARIANTS, random_model
from tests.helpers.standins import TEXT, random_checkpoint

SAMPLING = Sampling(seed=3, temperature=0.7, top_k=9)
LETTERS = "".join(chr(code) for code in range(33, 33 + SHAPE["vocab_size"]))


def life_of(variant: str, length: int, position: int | None = None, top: int = 5) -> LifeView:
    model = random_model(**VARIANTS[variant]).requires_grad_(False)
    ids = torch.randint(0, 53, (length,), generator=torch.Generator().manual_seed(9)).tolist()
    tokenizer = letters()
    prompt = Prompt(tokenizer.decode(ids), tuple(ids))
    return view_life(ReferenceDecoder(model), tokenizer, prompt, SAMPLING, position=position, top=top)


def letters() -> Tokenizer:
    return train_tokenizer("char", [LETTERS])


def named(view: LifeView, name: str) -> list[Stage]:
    return [stage for stage in view.stages if stage.name == name]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 24, 30])
def test_the_stages_put_together_are_the_models_own_pass(variant: str, length: int) -> None:
    view = life_of(variant, length)
    assert view.difference < 1e-5
    assert len(view.context) == min(length, 24)
    numbers = [stage.number for stage in view.stages]
    inner = [6, 6, 6, 6, 7, 7, 8, *[8] * view.gated, 8, 8, 8]
    assert bool(named(view, "gate")) == view.gated
    assert [stage.number for stage in view.stages if stage.layer] == inner * 2
    assert [number for number in numbers if number < 6] == numbers[: numbers.index(6)]
    assert numbers[-2:] == [10, 11]
    assert bool(named(view, "soft cap")) == (view.softcap > 0)
    assert bool(named(view, "position")) == (view.positions == "learned")
    assert bool(named(view, "rotary cosines")) == (view.positions == "rotary")


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_head_takes_sums_to_one(variant: str) -> None:
    for top, position in ((1, 7), (3, 20), (30, 24)):
        view = life_of(variant, 24, position, top)
        assert [(head.layer, head.head) for head in view.heads] == [
            (a, b) for a in (1, 2) for b in (1, 2, 3, 4)
        ]
        for head in view.heads:
            assert sum(at.weight for at in head.attended) + head.rest == pytest.approx(1, abs=1e-5)
            assert len(head.attended) == min(top, position)
            assert all(1 <= at.position <= position for at in head.attended)


def test_one_layer_and_one_head_are_what_all_have_of_them() -> None:
    model, tokenizer = random_model(**VARIANTS["nanochat"]).requires_grad_(False), letters()
    prompt = Prompt("ABC", tuple(tokenizer.encode("ABC")))
    every = view_life(ReferenceDecoder(model), tokenizer, prompt, SAMPLING)
    some = view_life(ReferenceDecoder(model), tokenizer, prompt, SAMPLING, layer=2, head=3)
    assert some.heads == tuple(head for head in every.heads if (head.layer, head.head) == (2, 3))
    assert some.stages == tuple(stage for stage in every.stages if stage.layer in (None, 2))
    assert (some.layers, some.difference, some.choice) == (2, every.difference, every.choice)


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_stages_and_attentions_are_those_of_transformers(arch: str, tmp_path: Path) -> None:
    import transformers

    folder = random_checkpoint(tmp_path / arch, arch=arch)
    checkpoint = load(folder)
    other = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    prompt = read_prompt(checkpoint.tokenizer, "The cat sat on a mat", checkpoint.config.context)
    for position in (1, 5, len(prompt.ids)):
        view = view_life(
            ReferenceDecoder(checkpoint.model),
            checkpoint.tokenizer,
            prompt,
            SAMPLING,
            position=position,
            top=99,
        )
        with torch.no_grad():
            out = other(torch.tensor([prompt.ids]), output_hidden_states=True, output_attentions=True)
        ends = [stage for stage in view.stages if (stage.number, stage.name) == (8, "residual")]
        starts = [stage for stage in view.stages if stage.number == 5 and stage.name in ("residual", "norm")]
        # Their last hidden state is normalised.
        for stage, hidden in zip(
            [*starts, *ends[:-1], *named(view, "final norm")], out.hidden_states, strict=True
        ):
            theirs = hidden[0, position - 1]
            assert stage.norm == pytest.approx(float(theirs.norm()), rel=1e-4)
            assert stage.values == pytest.approx(theirs[:8].tolist(), abs=1e-4)
        for head in view.heads:
            weights = out.attentions[head.layer - 1][0, head.head - 1, position - 1]
            assert len(head.attended) == position
            for at in head.attended:
                assert at.weight == pytest.approx(float(weights[at.position - 1]), abs=1e-5)
                assert at.id == prompt.ids[at.position - 1]
        (logits,) = named(view, "logits")[-1:]
        assert view.difference < 1e-5
        probs = out.logits[0, position - 1].double().softmax(-1)
        (softmax,) = named(view, "softmax")
        assert softmax.values == pytest.approx(probs[:8].tolist(), abs=1e-6)
        assert logits.shape == softmax.shape == (280,)
        assert view.choice.candidates[0].probability == pytest.approx(float(probs.max()), abs=1e-5)
        if view.follows:
            token = prompt.ids[position]
            assert view.follows.id == token
            assert view.follows.probability == pytest.approx(float(probs[token]), abs=1e-6)
            assert view.follows.rank == int((probs > probs[token]).sum()) + 1


def test_norms_cosines_and_units_by_hand() -> None:
    model = random_model(**VARIANTS["gpt2"]).requires_grad_(False)
    view = view_life(ReferenceDecoder(model), letters(), Prompt("!", (0,)), SAMPLING)
    e, p = model.embedding[0].tolist(), (model.positions[0].tolist() if model.positions is not None else [])
    total = [a + b for a, b in zip(e, p, strict=True)]

    def norm(vector: list[float]) -> float:
        return float(sum(a * a for a in vector) ** 0.5)

    embedding, position, residual = view.stages[:3]
    assert embedding.norm == pytest.approx(norm(e))
    assert embedding.cosine is None
    assert position.values == pytest.approx(p[:8])
    assert residual.norm == pytest.approx(norm(total))
    dot = sum(a * b for a, b in zip(e, total, strict=True))
    assert residual.cosine == pytest.approx(dot / norm(e) / norm(total))
    # The only token looks at itself.
    assert all(head.attended[0].weight == 1 for head in view.heads)
    assert all(head.output == pytest.approx(head.value) for head in view.heads)
    first = model.blocks[0]
    with torch.no_grad():
        x = torch.tensor(total)
        normed = first.attention_norm(x)  # type: ignore[operator]
        x = x + first.attention.out(first.attention.qkv(normed)[64:])  # type: ignore[operator, union-attr]
        above = int((first.mlp.up(first.mlp_norm(x)) > 0).sum())  # type: ignore[operator, union-attr]
    assert named(view, "units")[0].active == above
    assert 0 < above < 128


def test_the_choice_is_that_of_sample_at_that_place() -> None:
    whole, part = life_of("nanochat", 24, 10), life_of("nanochat", 10)
    assert whole.choice == part.choice
    assert whole.stages == part.stages
    assert whole.choice.filters == ("temperature", "top-k")
    assert (whole.position, whole.length, part.length) == (10, 24, 10)


@pytest.mark.parametrize("position", [0, -1, 25])
def test_a_position_that_is_not_there(position: int) -> None:
    with pytest.raises(UsageError, match=f"no position {position}") as caught:
        life_of("gpt2", 24, position)
    assert "1 to 24" in caught.value.hint


def test_merges_by_hand() -> None:
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5}
    assert merges_of(b"abc", ranks) == [(b"b", b"c"), (b"a", b"bc")]
    assert merges_of(b"a", ranks) == []
    assert merges_of(b"ac", ranks) == []


@settings(max_examples=20)
@given(st.data())
def test_every_learned_token_is_merged_from_its_bytes(data: st.DataObject) -> None:
    vocabulary = train_tokenizer("bpe", [TEXT], vocab_size=300).vocabulary
    assert isinstance(vocabulary, BytePairVocabulary)
    token = data.draw(st.sampled_from([token for token in vocabulary.ranks if len(token) > 1]))
    merges = merges_of(token, vocabulary.ranks)
    assert b"".join(merges[-1]) == token
    assert len(merges) == len(token) - 1
