"""The likeliest tokens at each place of a text, as a table."""

import math
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.columns import light_table, pack, percent
from mygpt_cli.ui.text import visible

if TYPE_CHECKING:
    from mygpt_cli.generation.stream import Sample
    from mygpt_cli.tokens.tokenizer import Tokenizer

LONGEST, SHARE, GAP = 20, 6, 2  # cells of a token, of a share, and between two columns


def render_top(sample: "Sample", tokenizer: "Tokenizer", width: int) -> Table:
    """Render a row for each token: itself, its probability, and the likeliest tokens in its place."""
    tokens = [visible(tokenizer.token_bytes(token)) for token in sample.ids]
    first = min(LONGEST, max(map(cell_len, ("token", *tokens))))
    table = light_table(width, gap=GAP)
    table.add_column("token", no_wrap=True, width=first)
    table.add_column("model", justify="right", no_wrap=True, width=SHARE)
    table.add_column("likeliest", ratio=1)
    for id_, token, logprob, top in zip(sample.ids, tokens, sample.logprobs, sample.top, strict=True):
        likeliest = [
            Text.assemble(
                (visible(tokenizer.token_bytes(other)), "bold green" if other == id_ else ""),
                (f" {percent(math.exp(share))}", "dim"),
            )
            for other, share in top
        ]
        lines = pack([entry.cell_len for entry in likeliest], width - first - SHARE - GAP, GAP)
        folded = [Text("  ").join(likeliest[place] for place in line) for line in lines]
        table.add_row(Text(token), percent(math.exp(logprob)), Text("\n").join(folded))
    return table
