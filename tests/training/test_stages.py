"""How a run is shared out among its models, and that they are better together."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.backends.reference import Autograd
from mygpt_cli.config.course import Course
from mygpt_cli.model.ensemble import joined_config
from mygpt_cli.tokens.dataset import Dataset, val_windows
from mygpt_cli.training.events import Evaluated, Noted, Progress
from mygpt_cli.training.history import History
from mygpt_cli.training.judging import is_hopeless
from mygpt_cli.training.stages import stage_course
from tests.conftest import tiny_config
from tests.helpers.trainers import new_trainer


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """A plan, and corrections each of which leaves steps to take."""
    course = [(0, draw(st.integers(20, 400)))]
    for _ in range(draw(st.integers(0, 5))):
        since, end = course[-1]
        if since + 1 >= end:
            break
        step = draw(st.integers(since + 1, end - 1))
        course.append((step, draw(st.integers(step + 1, step + 300))))
    return tuple(course)


@given(courses(), st.integers(1, 6))
def test_the_stages_are_the_run(course: Course, members: int) -> None:
    """One after another they take all its steps; a correction tells only on what comes after it."""
    first = 0
    for stage in range(members):
        own = stage_course(course, members, stage, first)
        assert own[0][0] == 0
        later = [n for n in range(1, len(course)) if course[n][0] > first]
        for known in later:  # what was done before a correction was known
            earlier = stage_course(course[:known], members, stage, first)
            assert own[: len(earlier)] == earlier
        first += own[-1][1]
    assert first == course[-1][1]
    if len(course) == 1 and course[0][1] % members == 0:
        assert stage_course(course, members, 0, 0)[-1][1] == course[0][1] // members


def test_a_run_of_one_model_is_one_stage() -> None:
    course = ((0, 100), (40, 80), (60, 90))
    assert stage_course(course, 1, 0, 0) == course


@pytest.mark.parametrize("stop_at", [5, 10, 15, 20, 25, 30])
@pytest.mark.parametrize("steps", [24, 32, 90])
def test_a_run_of_another_length_goes_on_in_every_stage(
    tiny_dataset: Dataset, stop_at: int, steps: int
) -> None:
    """Longer or shorter than planned, its learning rates are factors, and it gets to its last model."""
    if stop_at >= steps:
        return
    config = tiny_config(steps=30, members=3, average=0.1, warmup=1, decay_fraction=0.6, log_every=1)
    config = replace(config, schedule="linear", final_lr=0.0, patience=0)
    trainer = new_trainer(config, tiny_dataset)
    list(trainer.run(lambda: "SIGTERM" if trainer.history.step == stop_at else None))
    trainer.config = replace(config, steps=steps)
    trainer.average.hide()
    said = trainer.extend(config.course)
    assert f"ends at step {steps} instead of 30" in said
    began = {trainer.history.stage: trainer.history.stage_first}
    for event in trainer.run():
        began[trainer.history.stage] = trainer.history.stage_first
        if isinstance(event, Progress):
            assert 0.0 <= event.lr <= config.lr * (1 + 1e-9)
    assert trainer.history.stage == 2
    assert trainer.history.step == steps
    assert trainer.history.stage_step > 0
    if stop_at < 10:  # then those that were to come have as many steps
        assert abs(steps - began[2] - (began[2] - began[1])) <= 1


def test_a_member_may_learn_its_text_by_heart(tiny_dataset: Dataset) -> None:
    config = tiny_config(members=2, patience=1)
    worse = Evaluated(
        step=9,
        train_loss=1.0,
        val_loss=3.0,
        bits_per_byte=3.0,
        nats_per_character=3.0,
        best=False,
        seconds=1.0,
    )
    for stage, hopeless in ((0, False), (1, True)):
        history = History(stage=stage, stage_best=1.0, evals_since_best=4)
        assert is_hopeless(history, config, worse) is hopeless


def test_the_models_are_better_together(tiny_dataset: Dataset) -> None:
    """What is validated is what is delivered, and each model's last step is."""
    config = tiny_config(
        arch="nanochat", steps=90, members=3, average=0.1, eval_every=20, warmup=3, patience=0
    )
    trainer = new_trainer(config, tiny_dataset)
    events, alone = [], {}
    for event in trainer.run():
        events.append(event)
        if isinstance(event, Evaluated):
            losses = [
                Autograd(trainer.model).loss(torch.from_numpy(x), torch.from_numpy(y)).item() * y.size
                for x, y in val_windows(tiny_dataset.val, config.context, 8)
            ]
            alone[event.step] = sum(losses) / (len(tiny_dataset.val) - 1)
    notes = [(event.step, event.text) for event in events if isinstance(event, Noted)]
    assert notes[:2] == [
        (31, "model 1 of 3 is trained; now model 2"),
        (61, "model 2 of 3 is trained; now model 3"),
    ]
    together = {event.step: event.val_loss for event in events if isinstance(event, Evaluated)}
    assert [*together] == [20, 30, 40, 60, 80, 90]
    assert together[20] == pytest.approx(alone[20], abs=1e-6)
    assert together[40] != alone[40]  # another model began
    assert together[60] < (alone[30] + alone[60]) / 2
    whole = trainer.delivered()
    assert whole.config == joined_config(config.model(tiny_dataset.tokenizer.vocab_size), 3)
    kept = [tensor for name, tensor in trainer.state().items() if name.startswith("members.")]
    assert len(kept) == 3 * len(list(trainer.model.parameters()))
