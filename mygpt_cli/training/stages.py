"""A run of several models, one after another, which are delivered as one: its members.

Each has its own weights, optimizer and learning-rate schedule, and as many steps as the others. Together they
do better than one that has been trained for as long on the same small text, since they are mistaken about
different things (Lakshminarayanan et al., 2017, arXiv:1612.01474).
"""

from mygpt_cli.config.course import Course
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.history import History


def stage_course(course: Course, members: int, stage: int, first: int) -> Course:
    """Return how many steps a stage has, as planned and as corrected, both counted from its `first` step.

    `course` is that of the run. What is left of it when a stage begins, and at each correction, is shared out
    evenly among the stages that are left; the last one takes all.
    """
    left = members - stage
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
