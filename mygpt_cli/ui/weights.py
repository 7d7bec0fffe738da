"""The tensors of a model, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.columns import WIDEST
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Column, Row, Rows, closing, histogram
from mygpt_cli.ui.text import one_line

if TYPE_CHECKING:
    from mygpt_cli.inspection.weights import Weights


def show_weights(tensors: Sequence["Weights"], how: Shown, page: dict[str, Any] | None = None) -> None:
    """Write the tensors of a model, each as a line of JSON; `page` is what a page shows."""
    with how.screen("weights") as screen:
        for tensor in tensors:
            screen.record(as_json(tensor))
        screen.show(*render_weights(tensors, screen.width, explain=how.explain))
        if page:
            screen.explore(page, "bars.js", "weights.js")


def render_weights(
    tensors: Sequence["Weights"], width: int, *, explain: bool = False
) -> list[RenderableType]:
    """Render each tensor with its shape, its numbers and their histogram, for 60 cells or more."""
    columns = [Column(name, 9, right=True) for name in ("norm", "mean", "lowest", "highest")]
    rows = []
    for tensor in tensors:
        numbers = (tensor.norm, tensor.mean, tensor.low, tensor.high)
        rows.append(Row([tensor_name(tensor.name, tensor.shape)]))
        rows.append(Row([*map(short, numbers), histogram(tensor.histogram)], _sentence(tensor)))
    words = (
        "Each histogram counts the tensor's numbers from its lowest to its highest. Long tails, and a norm"
        " far above its neighbours', are worth a look; --compare with an earlier checkpoint shows what"
        " training moved."
    )
    table = Rows([*columns, Column("histogram", 0)], rows, min(width, WIDEST), explain)
    return [table, Text(), closing(words)]


def tensor_name(name: str, shape: Sequence[int]) -> Text:
    """Write a tensor's name and its shape."""
    return Text.assemble((one_line(name), "bold"), (f"  {' × '.join(map(str, shape))}", "dim"))


def short(number: float) -> str:
    """Write a number in at most nine cells."""
    texts = (f"{number:.{digits}g}" for digits in (4, 3, 2))
    return next(text for text in texts if len(text) <= 9)


def _sentence(tensor: "Weights") -> str:
    return (
        f"Its numbers average {short(tensor.mean)}, most within {short(tensor.deviation)} of that; its"
        f" length is {short(tensor.norm)} (the root of the sum of their squares)."
    )
