"""A run of several models: its members, one after another, then the student that learns from all of them.

Each has its own weights, optimizer and learning-rate schedule, and as many steps as the others. A model that
learns from the averaged predictions of several does better than one that has trained for as long on the same
small text (Hinton et al., 2015, arXiv:1503.02531).
"""

from mygpt_cli.config.course import Course
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.history import History

TEACHER_COST = 0.3  # of a step: to read its tokens with one member


def stage_course(course: Course, members: int, stage: int, first: int) -> Course:
    """Return how many steps a stage has, as planned and as corrected, both counted from its `first` step.

    `course` is that of the run. What is left of it when a stage begins, and at each correction, is shared out
    evenly among the stages that are left; the last one, whose number is `members`, takes all.
    """
    left = members + 1 - stage
    own: list[tuple[int, int]] = []
    for since, steps in course:
        begin, length = max(0, since - first), -(-(steps - first) // left)
        if not begin:
            own = [(0, length)]
        elif begin < own[-1][1]:
            own.append((begin, max(begin, length)))
    return tuple(own)


def current_course(config: TrainConfig, history: History, course: Course | None = None) -> Course:
    """Return `stage_course` of the stage that is being trained, by default on the run's own course."""
    return stage_course(course or config.course, config.members, history.stage, history.stage_first)


def cost_of_all(members: int) -> float:
    """Return what all models of a run cost together as a multiple of a member, each having as many steps."""
    return members + step_cost(members, members)


def step_cost(members: int, stage: int) -> float:
    """Return what a step of a stage costs as a multiple of that of a member."""
    return 1.0 + TEACHER_COST * members if stage == members else 1.0


def cost_until(members: int, steps: int, step: int) -> float:
    """Return what the first steps of a run of so many cost, in steps of a member."""
    of_student = max(0.0, step - steps * members / (members + 1))
    return step + of_student * (step_cost(members, members) - 1.0)


def cost(members: int, stage: int, done: int, count: int) -> float:
    """Return the cost, in steps of a member, of `count` more steps, `done` after a stage began."""
    left = members + 1 - stage
    of_this = min(count, max(0, -(-(done + count) // left) - done))
    of_student = count if left == 1 else (count - of_this) // (left - 1)
    return count + of_student * (step_cost(members, members) - 1.0)
