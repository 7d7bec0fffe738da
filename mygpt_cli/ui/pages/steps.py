"""The choice at every step as data for a page: recorded logits, and the settings that chose among them."""

from typing import TYPE_CHECKING, Any

from mygpt_cli.config.sampling import DRAWING, field_of
from mygpt_cli.ui.text import one_line, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.choices import ChoiceRecorder, Choices, Rest
    from mygpt_cli.tokens.tokenizer import Tokenizer

LONGEST = 4000  # characters of the text before the first step


def steps_page(context: bytes, recorder: "ChoiceRecorder", tokenizer: "Tokenizer") -> dict[str, Any]:
    """Return what a page needs to show each step after a text, and to choose again with other settings."""
    sampling, choices = recorder.sampling, recorder.choices
    ids = {token for choice in choices for token in _ids(choice)}
    text = broken(context)
    return {
        "prompt": text[-LONGEST:],
        "left_out": max(0, len(text) - LONGEST),
        "seed": sampling.seed,
        "order": [name for name in sampling.order if name in DRAWING],
        "settings": {name: getattr(sampling, field_of(name)) for name in DRAWING},
        "early": recorder.early,
        "temperatures": recorder.degrees,
        "tokens": {token: visible(tokenizer.token_bytes(token)) for token in sorted(ids)},
        "made": recorder.steps,
        "steps": [_step(choice) for choice in choices],
    }


def broken(text: bytes) -> str:
    """Show running text, its lines broken after the sign of each line's end."""
    return one_line(text.decode("utf-8", "surrogateescape")).replace("↵", "↵\n")


def _ids(choice: "Choices") -> set[int]:
    rest = choice.rest
    return {
        *choice.ids,
        *(rest.picks if rest else ()),
        *(token for token, _, _ in (rest.line if rest else ())),
    }


def _step(choice: "Choices") -> dict[str, Any]:
    """Return a step; of each filter, only the logits that it changed, by their place."""
    stages, before = [], choice.logits
    for name, logits in choice.stages:
        changed = [at for at, (old, new) in enumerate(zip(before, logits, strict=True)) if old != new]
        stages.append({"name": name, "places": changed, "logits": [logits[at] for at in changed]})
        before = logits
    return {
        "picked": choice.picked,
        "draw": choice.draw,
        "ids": choice.ids if choice.rest else None,
        # The model's are float32, which nine digits give exactly.
        "logits": [float(f"{logit:.9g}") for logit in choice.logits],
        "stages": stages,
        "rest": None if choice.rest is None else _rest(choice.rest),
    }


def _rest(rest: "Rest") -> dict[str, Any]:
    return {
        "ranks": rest.ranks,
        "count": rest.count,
        "alive": rest.alive,
        "best": rest.best,
        "own": rest.own,
        "stages": rest.stages,
        "sums": [float(f"{total:.12g}") for total in rest.sums],
        "picks": rest.picks,
        "line": rest.line,
    }
