"""How a run is shared out among its models, and that the last learns from the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.config.course import Course
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import Evaluated, Noted
from mygpt_cli.training.stages import TEACHER_COST, cost, stage_course
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


def test_the_last_model_learns_from_the_mean_of_the_others(tiny_dataset: Dataset) -> None:
    config = tiny_config(steps=90, members=2, average=0.1, eval_every=15, warmup=3)
    trainer = new_trainer(config, tiny_dataset)
    began: list[torch.Tensor] = []
    events = []
    for event in trainer.run():
        events.append(event)
        if trainer.history.stage_step == 1 or not began:
            began.append(trainer.model.embedding.detach().clone())
    notes = [(event.step, event.text) for event in events if isinstance(event, Noted)]
    assert notes[:2] == [
        (30, "member 1 of 2 is trained; now member 2 of 2"),
        (60, "member 2 of 2 is trained; now the model that learns from all 2"),
    ]
    losses = {event.step: event.val_loss for event in events if isinstance(event, Evaluated)}
    assert losses[45] > losses[30] > losses[90]  # another model began
    taught = [tensor for name, tensor in trainer.state().items() if name.startswith("members.")]
    assert len(taught) == 2 * len(list(trainer.model.parameters()))
