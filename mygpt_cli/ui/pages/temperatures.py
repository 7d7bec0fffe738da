"""The next token at several temperatures as data for a page: the recorded logits, to choose from again."""

from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.pages.steps import steps_page

if TYPE_CHECKING:
    from mygpt_cli.inspection.choices import ChoiceRecorder
    from mygpt_cli.inspection.temperatures import TemperaturesView
    from mygpt_cli.tokens.tokenizer import Tokenizer


def temperatures_page(
    view: "TemperaturesView", recorder: "ChoiceRecorder", tokenizer: "Tokenizer"
) -> dict[str, Any]:
    """Return what a page needs to show the same choice, of which there is one step, at any temperature."""
    return steps_page(view.context, recorder, tokenizer) | {
        "listed": view.temperatures,
        "choices": [spread.choices for spread in view.spreads],
    }
