"""How a run is shared out among its models, and that the last learns from the others."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.config.course import Course
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import Evaluated, Noted, Progress
from mygpt_cli.training.history import History
from mygpt_cli.training.judging import is_hopeless
from mygpt_cli.training.stages import TEACHER_COST, cost, cost_until, stage_course, step_cost
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


@given(courses(), st.integers(0, 5))
def test_the_stages_are_the_run(course: Course, members: int) -> None:
    """One after another they take all its steps; a correction tells only on what comes after it."""
    first = 0
    for stage in range(members + 1):
        own = stage_course(course, members, stage, first)
        assert own[0][0] == 0
        later = [n for n in range(1, len(course)) if course[n][0] > first]
        for known in later:  # what was done before a correction was known
            earlier = stage_course(course[:known], members, stage, first)
            assert own[: len(earlier)] == earlier
        first += own[-1][1]
    assert first == course[-1][1]
    if len(course) == 1 and course[0][1] % (members + 1) == 0:
        assert {stage_course(course, members, 0, 0)[-1][1]} == {course[0][1] // (members + 1)}


def test_a_run_of_one_model_is_one_stage() -> None:
    course = ((0, 100), (40, 80), (60, 90))
    assert stage_course(course, 0, 0, 0) == course
    assert cost(0, 0, 10, 70) == 70


def test_a_step_of_the_student_costs_more() -> None:
    assert cost(3, 0, 0, 400) == pytest.approx(400 + 100 * 3 * TEACHER_COST)
    assert cost(3, 2, 50, 150) == pytest.approx(150 + 100 * 3 * TEACHER_COST)
    assert cost(3, 3, 50, 40) == pytest.approx(40 * (1 + 3 * TEACHER_COST))


@given(st.integers(0, 4), st.integers(1, 100))
def test_what_is_done_and_what_is_left_are_all(members: int, steps: int) -> None:
    whole = steps * (members + 1)
    assert cost_until(members, whole, whole) == pytest.approx(cost(members, 0, 0, whole))
    done = cost_until(members, whole, steps * members)
    assert done == steps * members
    assert cost(members, members, 0, steps) == pytest.approx(cost_until(members, whole, whole) - done)


@given(st.integers(0, 4), st.integers(0, 300), st.integers(0, 400), st.data())
def test_the_cost_is_that_of_the_steps_one_by_one(
    members: int, done: int, count: int, data: st.DataObject
) -> None:
    """Stages end early where the run was shortened: none gives back steps that it has taken."""
    stage = data.draw(st.integers(0, members))
    total, own, first, step = 0.0, stage, 0, done
    course = ((0, done + count),)  # from where this stage began
    for step in range(done, done + count):
        while own < members and step - first >= stage_course(course, members, own, first)[-1][1]:
            own, first = own + 1, step
        total += step_cost(members, own)
    assert cost(members, stage, done, count) == pytest.approx(
        total, abs=members * TEACHER_COST * (members + 1)
    )
    assert cost(members, stage, done, count + 1) > cost(members, stage, done, count)


@pytest.mark.parametrize("stop_at", [5, 10, 15, 20, 25, 30])
@pytest.mark.parametrize("steps", [24, 32, 90])
def test_a_run_of_another_length_goes_on_in_every_stage(
    tiny_dataset: Dataset, stop_at: int, steps: int
) -> None:
    """Longer or shorter than planned, its learning rates are factors, and its last model is the student."""
    if stop_at >= steps:
        return
    config = tiny_config(steps=30, members=2, average=0.1, warmup=1, decay_fraction=0.6, log_every=1)
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
    config = tiny_config(members=1, patience=1)
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


def test_the_last_model_learns_from_the_mean_of_the_others(tiny_dataset: Dataset) -> None:
    config = tiny_config(steps=90, members=2, average=0.1, eval_every=15, warmup=3)
    trainer = new_trainer(config, tiny_dataset)
    events = list(trainer.run())
    notes = [(event.step, event.text) for event in events if isinstance(event, Noted)]
    assert notes[:2] == [
        (31, "member 1 of 2 is trained; now member 2 of 2"),
        (61, "member 2 of 2 is trained; now the model that learns from them"),
    ]
    losses = {event.step: event.val_loss for event in events if isinstance(event, Evaluated)}
    assert losses[45] > losses[30]  # another model began
    taught = [tensor for name, tensor in trainer.state().items() if name.startswith("members.")]
    assert len(taught) == 2 * len(list(trainer.model.parameters()))
