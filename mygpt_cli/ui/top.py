"""The likeliest tokens at each place of a text, as a table."""

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.columns import light_table, percent
from mygpt_cli.ui.text import visible

if TYPE_CHECKING:
    from mygpt_cli.generation.stream import Sample
    from mygpt_cli.tokenizer import Tokenizer


def render_top(sample: "Sample", tokenizer: "Tokenizer", width: int) -> Table:
    """Render a row for each token: itself, its probability, and the likeliest tokens in its place."""
    table = light_table(width)
    table.add_column("token", no_wrap=True, max_width=20)
    table.add_column("model", justify="right", no_wrap=True)
    table.add_column("likeliest", ratio=1)
    for token, logprob, top in zip(sample.ids, sample.logprobs, sample.top, strict=True):
        likeliest = Text("  ").join(
            Text.assemble(
                (visible(tokenizer.token_bytes(other)), "bold green" if other == token else ""),
                (f" {percent(math.exp(share))}", "dim"),
            )
            for other, share in top
        )
        table.add_row(Text(visible(tokenizer.token_bytes(token))), percent(math.exp(logprob)), likeliest)
    return table
