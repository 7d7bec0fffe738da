"""What views are made of, and what is made of them."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

from rich.console import Console, RenderableType

from mygpt_cli.config.sampling import Sampling
from mygpt_cli.inspection.attention import AttentionView, Head, HeatMap, Measures
from mygpt_cli.inspection.contributions import Contribution, Contributions
from mygpt_cli.inspection.history import Interval, RunHistory, Validation
from mygpt_cli.inspection.lens import Guess, Position
from mygpt_cli.inspection.steps import Candidate, Others, Spread, StepView
from mygpt_cli.inspection.summary import Part, Summary, TokenizerFacts, Training
from mygpt_cli.model.architectures import configure


def candidate(rank: int, token: bytes, share: float, final: float, **changes: object) -> Candidate:
    values = {"rank": rank, "id": 40 + rank, "token": token, "logit": 5.0 - rank, "probability": share}
    values |= {"final_probability": final, "cut_by": None, "low": 0.25, "high": 0.25 + final, "picked": False}
    values["stages"] = (0.5, final)
    return Candidate(**(values | changes))  # type: ignore[arg-type]


VIEW = StepView(
    index=1,
    context=b"Once upon",
    candidates=(
        candidate(1, b" a", 0.5, 0.75),
        candidate(2, b"\n", 0.25, 0.25, picked=True),
        candidate(3, b"\xe2\x80", 0.125, 0.0, cut_by="top-k"),
    ),
    others=Others(
        count=1000, kept=0, probability=0.125, stages=((0.2, 1000), (0.0, 0)), final_probability=0.0
    ),
    filters=("temperature", "top-k"),
    draw=0.375,
    model_spread=Spread(2.5, 5.657),
    final_spread=Spread(0.811, 1.755),
)


SUMMARY = Summary(
    folder="checkpoints/tiny-001/best",
    model=configure("nanochat", vocab_size=512, layers=2, heads=4, width=64, context=128),
    parts=(Part("token embedding", 1, 32_768), Part("attention", 4, 32_768), Part("head", 1, 32_768)),
    parameters=98_304,
    bytes=393_216,
    tokenizer=TokenizerFacts("bpe", 512, 511, (511,), 0, ()),
    training=Training(300, 400, 307_200, 71.2, 2.5, 2.75, 2.25, 300, 2.25, 200),
)


SAMPLING = Sampling(temperature=0.5, top_k=2, seed=7)


def render(renderable: RenderableType, width: int = 80, *, colour: bool = False) -> str:
    file = io.StringIO()
    system = "truecolor" if colour else None
    options = {"force_terminal": colour, "color_system": system, "no_color": not colour}
    Console(file=file, width=width, **options).print(renderable)  # type: ignore[arg-type]
    lines = file.getvalue().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


class Terminal(io.StringIO):
    """A terminal of 60 columns, of which COLUMNS has to tell rich; it knows how rich goes back and erases."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return the lines that are left on it, without those that are blank."""
        lines, row = [""], 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|[^\x1b\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] if row == len(lines) else []
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part == "\x1b[1A":
                row -= 1
            elif part[0] != "\x1b":
                for char in part.replace("\r", ""):
                    if len(lines[row]) == 60:  # the line goes on in the next one
                        row += 1
                        lines += [""] if row == len(lines) else []
                    lines[row] += char
        return [line for line in lines if line.strip()]


def history(*, running: bool = False) -> RunHistory:
    """Return a run of 100 steps whose validation is best at step 60."""
    intervals = tuple(
        Interval(step, step / 50, 2 + 20 / step, 2 + 20 / step, 0.005 * (1 - step / 100), 0.5, 9e3, step / 10)
        for step in range(5, 101, 5)
    )
    validations = tuple(
        Validation(step, 2.0, 2.5 + abs(step - 60) / 100, 1.25, 1.5, step / 10) for step in range(20, 101, 20)
    )
    reason = None if running else "done"
    steps = 400 if running else 100
    return RunHistory("a-001", running, reason, 100, steps, 10.0, intervals, validations, validations[2], ())


EVIL = "<script>alert(1)</script>\"'&><img src=x onerror=y> \x1b[31m\x00\ufffe]]>--><!--"


class Page(HTMLParser):
    """Collects the tags, the attributes and the text of a page, and apart its scripts and styles.

    `elements` are the texts of scripts and styles, by what they are: `script`, `style`, or a script's type.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.elements: list[tuple[str, str]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag in ("script", "style"):
            self._inside = dict(attributes).get("type") or tag
            self.elements.append((self._inside, ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            kind, before = self.elements[-1]
            self.elements[-1] = kind, before + data
        else:
            self.text += data

    @property
    def data(self) -> Any:
        """What the script of the page shows."""
        return json.loads(dict(self.elements)["application/json"])

    @property
    def policy(self) -> str:
        return next(value for name, value in self.attributes if value.startswith("default-src"))


def check_harmless(text: str) -> Page:
    """Check that a page or picture holds nothing active, but for one script that its policy names."""
    page = Page(text)
    assert page.tags <= {
        *("html", "head", "meta", "title", "style", "body", "pre", "span"),
        *("svg", "path", "circle", "text", "rect"),
        *("header", "main", "h1", "p", "div", "noscript", "script"),
    }
    names = {name for name, _ in page.attributes}
    assert not any(name.startswith("on") or name in ("src", "href", "xlink:href", "data") for name in names)
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\(|@import|javascript:", outside)
    if "html" in page.tags:
        assert "style" not in names
        assert page.policy.startswith("default-src 'none'; ")
        kinds = [kind for kind, _ in page.elements]
        assert kinds in (["style"], ["style", "application/json", "script"])
        assert ("script-src 'none'" in page.policy) == ("script" not in kinds)
        for kind, content in page.elements:
            if kind in ("style", "script"):
                digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
                assert f"{kind}-src 'sha256-{digest}'" in page.policy
            else:
                assert not re.search("[<>&\u2028\u2029]", content)
    return page


def view_of(*tokens: bytes) -> AttentionView:
    """Return a view of a text: one head looks back by a token, one is mixed, one cannot be named."""
    n = len(tokens)
    back = tuple(
        tuple(0.9 if k == max(0, q - 1) else 0.1 / max(1, q) for k in range(q + 1)) for q in range(n)
    )
    measures = Measures(0.9, 0.1, None, None, 0.0)
    unknown = Measures(None, None, None, None, None)
    return AttentionView(
        ids=tuple(range(n)),
        tokens=tokens,
        answer=7,
        answer_token=b" sat",
        rival_token=tokens[-1],
        probability=0.5,
        heads=(
            Head(1, 1, "previous_token", 0.9, True, measures, 1.25, 0.2, back[-1]),
            Head(1, 2, "itself", 0.4, False, measures, -0.5, 0.505, back[-1]),
            Head(2, 1, None, None, False, unknown, 0.0, 0.75, back[-1]),
        ),
        maps=(HeatMap(1, 1, back),),
        contributions=Contributions(
            answer=7,
            rival=n - 1,
            logit=3.0,
            lead=1.5,
            parts=(
                Contribution("token embedding", None, 2.0, 0.5),
                Contribution("attention", 1, -1.0, 1.0),
                Contribution("bias of the final norm", None, 2.0, 0.0),
            ),
            rounding=Contribution("rounding", None, 1e-7, -2e-7),
        ),
    )


def position(index: int, token: bytes, *guesses: tuple[bytes, float, int]) -> Position:
    """Return a position with the guesses' tokens, shares, and ranks of the answer, which is the last one."""
    ids = [int.from_bytes(name) for name, _, _ in guesses]
    return Position(
        index=index,
        id=int.from_bytes(token),
        token=token,
        answer=ids[-1],
        answer_token=guesses[-1][0],
        decided=1 + max((i for i, at in enumerate(ids) if at != ids[-1]), default=-1),
        guesses=tuple(
            Guess(i, ids[i], name, share, rank, share / rank, 1.5, 0.5 * (len(guesses) - 1 - i))
            for i, (name, share, rank) in enumerate(guesses)
        ),
    )


VIEWS = [
    position(1, b" the", (b"x", 0.01, 90), (b" cat", 0.2, 1), (b" cat", 0.6, 1)),
    position(2, b" cat", (b"\n", 0.13, 2), (b"\xe2\x80", 0.3, 50_257), (b" sat", 0.8, 1)),
]
