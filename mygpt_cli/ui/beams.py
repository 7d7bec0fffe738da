"""Beam search as tables, a step at a time, and as a tree."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.constrain import Constrain
from rich.text import Text
from rich.tree import Tree

from mygpt_cli.ui.columns import ROOMY, fitting, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.beams import beams_page
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Column, Row, Rows, closing, heading
from mygpt_cli.ui.steps import PICKED, settings_record
from mygpt_cli.ui.text import head, one_line, quoted, tail, visible
from mygpt_cli.ui.units import count_of

if TYPE_CHECKING:
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.inspection.beams import BeamStep, BeamsView, Branch

NUMBER, TOKEN, VALUE, FATE, GAP = 4, 12, 8, 8, 1  # cells of the columns, and between them
BEFORE_TEXT = 2 * NUMBER + TOKEN + 3 * VALUE + FATE + 7 * GAP
INDENT, STATE = 4, 30  # cells for each level of the tree, and for the score and the fate of a text
LABEL = STATE + 10  # and for the least that is shown of it
STYLES = {"kept": "", "finished": "bold green", "dropped": "dim"}


def show_beams(view: "BeamsView", sampling: "Sampling", how: Shown) -> None:
    """Write a beam search: each step, the tree of all steps, and what was found."""
    with how.screen("beam search") as screen:
        screen.record(as_json(view) | settings_record(sampling))
        filters = f", after {', '.join(sampling.active)}" if sampling.active else ""
        settings = f"{count_of(view.beams, 'beam')}, length penalty {view.length_penalty:g}{filters}"
        screen.show(Text(settings, style="dim"), Text())
        screen.show(*render_beams(view, screen.width, top=how.top, explain=how.explain))
        if screen.page:
            screen.explore(beams_page(view), "beams.js")


def render_beams(
    view: "BeamsView", width: int, *, top: int = 5, explain: bool = False
) -> Iterator[RenderableType]:
    """Render a search for a screen of `width` cells (60 or more), with the best `top` of what was dropped."""
    width = fitting(width)
    for step in view.steps:
        yield heading(f"step {step.index}", view.context, width)
        yield Text()
        yield Rows(_columns(width), list(_rows(step, top, width)), width, explain, GAP)
        yield Text()
    if any(branch.fate == "kept" for branch in view.steps[-1].branches):
        words = f"The search ends here: no text that goes on scores better than these {len(view.found)}."
        yield Constrain(Text(words, style="dim"), width)
        yield Text()
    yield Text("all steps as a tree, with scores", style="bold")
    yield Text()
    yield render_tree(view, width)
    yield Text()
    yield Text("found, the best first", style="bold")
    yield Text()
    yield _found(view, width)
    yield Text()
    yield closing(
        "Each row extends a text by one token: the log-probability of the token (log p), the sum over the new"
        " tokens of the text, and the score: the sum divided by their number to the power of the length"
        f" penalty. A step keeps the highest sums ({PICKED}); finished texts are compared by their scores."
    )


def _columns(width: int) -> list[Column]:
    columns = [Column("", NUMBER, right=True), Column("from", NUMBER, right=True), Column("token", TOKEN)]
    columns += [Column(name, VALUE, right=True) for name in ("log p", "sum", "score")]
    return [*columns, *([Column("", FATE), Column("text", 0)] if width >= ROOMY else [Column("", 0)])]


def _rows(step: "BeamStep", top: int, width: int) -> Iterator[Row]:
    roomy, dropped = width >= ROOMY, 0
    for branch in step.branches:
        dropped += branch.fate == "dropped"
        if branch.fate == "dropped" and dropped > top:
            continue
        number = "" if branch.number is None else f"{PICKED}{branch.number}"
        values = [f"{value:.3f}" for value in (branch.logprob, branch.total, branch.score)]
        cells = [number, str(branch.parent or ""), visible(branch.token), *values, branch.fate]
        if roomy:
            cells.append(tail(_text(branch.written), width - BEFORE_TEXT))
        yield Row(cells, _sentence(branch), STYLES[branch.fate])
    if dropped > top:
        cells = ["", "", f"{dropped - top:,} more", "", "", "", "dropped", *([""] if roomy else [])]
        yield Row(cells, "", "dim")


def _sentence(branch: "Branch") -> str:
    of = f"text {branch.parent}" if branch.parent else "the prompt"
    told = f"{quoted(branch.token)} follows {of} with {percent(math.exp(branch.logprob))} of the probability"
    fates = {
        "kept": f": it goes on as text {branch.number}.",
        "finished": f", and completes it: the score is {branch.score:.3f}.",
        "dropped": ", and is dropped: the others did better.",
    }
    return told + fates[branch.fate]


def _text(data: bytes) -> str:
    return one_line(data.decode("utf-8", "surrogateescape"))


def _found(view: "BeamsView", width: int) -> RenderableType:
    columns = [Column("", NUMBER, right=True), Column("score", VALUE, right=True)]
    columns += [Column("sum", VALUE, right=True), Column("tokens", 6, right=True), Column("text", 0)]
    rows = [
        Row(
            [str(rank), f"{text.score:.3f}", f"{text.total:.3f}", f"{len(text.ids):,}", _text(text.text)],
            style="bold green" if rank == 1 else "",
        )
        for rank, text in enumerate(view.found, 1)
    ]
    return Rows(columns, rows, width)


@dataclass
class _Node:
    """A text of the tree: its token ids, its last tokens as they are shown, and what became of it.

    `forks` is the number of times that what follows it divides, one after the other.
    """

    ids: tuple[int, ...] = ()
    shown: str = ""
    score: float = 0.0
    step: int = 0
    written: bytes = b""
    children: list["_Node"] = field(default_factory=list)
    forks: int = 0


def render_tree(view: "BeamsView", width: int) -> RenderableType:
    """Draw the texts that were followed as a tree, with their scores; what was found stands out.

    Where they divide too often for the width, the tree has the last steps alone.
    """
    ranks = {found.ids: rank for rank, found in enumerate(view.found, 1)}
    kept, steps = _grow(view), len(view.steps)
    most = (width - LABEL) // INDENT - 1
    first = next(step for step in range(steps + 1) if all(node.forks <= most for node in kept[step]))
    root = Text(tail(_text(view.context), width // 2) or "(no text yet)", no_wrap=True, overflow="ellipsis")
    starts = [(node, node.shown) for node in kept[0]]
    if first:
        root.append(f" …  the last {steps - first} of {steps} steps", style="dim")
        starts = [(node, tail(visible(node.written), width // 4)) for node in kept[first]]
    tree = Tree(root, guide_style="dim")
    waiting = [(tree, 1, node, shown) for node, shown in reversed(starts)]
    while waiting:
        branch, level, node, shown = waiting.pop()
        while len(node.children) == 1:
            (node,) = node.children
            shown += node.shown
        room = min(width // 2, width - INDENT * level - STATE)
        added = branch.add(_label(node, head(shown, room), ranks.get(node.ids), steps))
        waiting += [(added, level + 1, child, child.shown) for child in reversed(node.children)]
    return Constrain(tree, width)


def _grow(view: "BeamsView") -> list[list[_Node]]:
    """Put the texts that were kept or finished together by what they begin with.

    Returns the texts after one token, then for each step those that it kept; each holds what followed it.
    """
    root = _Node()
    kept: list[list[_Node]] = [[]]
    for step in view.steps:
        parents = [root, *kept[-1]]  # the prompt has the number 0
        kept.append([])
        for branch in step.branches:
            if branch.fate == "dropped":
                continue
            parent = parents[branch.parent]
            shown = visible(branch.token)
            ids = (*parent.ids, branch.id)
            node = _Node(ids, shown, branch.score, step.index, branch.written)
            parent.children.append(node)
            if branch.fate == "kept":
                kept[-1].append(node)
    for node in (node for level in reversed(kept) for node in level):
        below = [child.forks for child in node.children]
        node.forks = max(below, default=0) + (len(below) > 1)
    return [root.children, *kept[1:]]


def _label(node: _Node, shown: str, rank: int | None, steps: int) -> Text:
    label = Text(no_wrap=True, overflow="ellipsis")
    label.append(shown, style="bold green" if rank == 1 else "bold" if rank else "")
    label.append(f"  {node.score:.3f}", style="" if rank else "dim")
    if rank:
        label.append(f"  found, number {rank}", style="green" if rank == 1 else "")
    elif not node.children:
        fate = "still open" if node.step == steps else f"dropped in step {node.step + 1}"
        label.append(f"  {fate}", style="dim")
    return label
