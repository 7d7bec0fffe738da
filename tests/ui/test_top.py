"""The table of the likeliest tokens on screens of any width."""

import io
import math
import re

import pytest
from rich.console import Console

from mygpt_cli.generation.stream import Likely, Sample
from mygpt_cli.ui.top import render_top
from tests.helpers.standins import byte_tokenizer


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_a_token_stands_in_one_line_with_its_share(width: int) -> None:
    tokenizer = byte_tokenizer()
    a, b, newline = tokenizer.encode("a"), tokenizer.encode("b"), tokenizer.encode("\n")
    shares = ((a[0], 0.5), (b[0], 0.25), (newline[0], 0.001))
    likely = tuple(Likely(token, math.log(share)) for token, share in shares)
    sample = Sample(1, 1, "", (b[0],), (math.log(0.25),), "length", top=(likely * 4,))
    screen = io.StringIO()
    Console(width=width, file=screen).print(render_top(sample, tokenizer, width))
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) == width
    assert lines[2].startswith("b       25.0%  a 50.0%")
    pairs = re.findall(r"(\S) (\d+\.\d)%", "\n".join(line[15:] for line in lines[2:]))
    assert pairs == [("a", "50.0"), ("b", "25.0"), ("↵", "0.1")] * 4
