"""Text that tries to command a terminal or a page: 60 payloads, and what finds one that got through."""

import base64
import hashlib
import re
from html.parser import HTMLParser

ESCAPES = [
    *("\x1b[2J", "\x1b[8mhidden", "\x1b[31mred", "\x1b[1;1H", "\x1b[6n", "\x1b[>c", "\x1b[5i", "\x1b[?1049h"),
    *("\x1b[?1000h", "\x1b[1000000b", "\x1bc", "\x1b#8", "\x1b(0", "\x1b7\x1b8", "\x1b[!p", "\x1b[3;4r"),
    *("\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\"),
    *(
        "\x1b]52;c;ZXZpbA==\x07",
        "\x1b]1337;File=:AA==\x07",
        "\x1bP$q\x1b\\",
        "\x1b_app\x1b\\",
        "\x1b^pm\x1b\\",
    ),
    *(
        "\x9b2J",
        "\x9d0;title\x9c",
        "\x90q\x9c",
        "\x84\x85\x8d",
        "a\b\b\bevil",
        "good\revil",
        "\x07",
        "\x0b\x0c",
    ),
    *("\x0e\x0f", "\x7f\x7f", "\x1b", "\x1b["),
]
DIRECTIONS = [
    *(
        "\u202eevil\u202c",
        "\u202d\u202a\u202b",
        "\u2066\u2067\u2068\u2069",
        "\u200e\u200f\u061c",
        "a\u2028b\u2029",
    ),
    *(
        "\ufff9a\ufffab\ufffb",
        "\U000e0041\U000e0042\U000e007f",
        "\u206a\u206f",
        "א\u202eb\u2066",
        "\ufeffa\u200bb",
    ),
]
MARKUP = [
    *("[bold red]x[/bold red]", "[/]", "[link=http://evil]x[/link]", ":boom:", "<script>alert(1)</script>"),
    *('"><svg onload=alert(1)>', "' onmouseover='alert(1)", "</pre><img src=x onerror=alert(1)>", "]]><!--"),
    *(
        "</style></title><script>1</script>",
        "<a href='javascript:1'>x</a>",
        "&#60;script&#62;",
        "%s%n{0!r}${x}",
    ),
    "]8;;[@click=app.bell]x[/]",
]
PAYLOADS = ESCAPES + DIRECTIONS + MARKUP

# What Rich itself writes to a terminal: colours and weights, and a line drawn again in its place.
OWN = re.compile(
    r"\x1b\[(?:(?:[0-4]|7|2[2-9]|[34][0-79]|[34]8;5;\d+|[34]8;2;\d+;\d+;\d+|9\d|10\d)(?:;|(?=m)))*m"
    r"|\r?\x1b\[2K|\x1b\[\d*A|\x1b\[\?25[lh]|\r(?=\x1b)"
)
ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e0fff"
    "\ud800-\udfff]"
)
ELEMENTS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "pre",
        "span",
        "svg",
        "rect",
        "path",
        "text",
        "circle",
    ),
    *("header", "main", "h1", "p", "div", "noscript", "script"),
}
ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "style",
        "xmlns",
        "role",
        "width",
        "height",
    ),
    *("viewbox", "x", "y", "d", "cx", "cy", "r", "fill", "stroke", "stroke-dasharray", "text-anchor"),
    *("textlength", "lengthadjust"),
    *("id", "type"),
}


def active_on_terminal(shown: bytes, payloads: list[str]) -> str:
    """Return what a terminal would act on besides Rich's own, or an empty string."""
    text = shown.decode("utf-8", "surrogateescape")
    for payload in payloads:
        if OWN.search(payload) and payload in text:  # what Rich may write, too
            return f"{payload!r} as it is"
    return active(OWN.sub("", text))


def active(text: str) -> str:
    """Return what would act in plain text, with what is around it, or an empty string."""
    found = ACTIVE.search(text)
    return "" if not found else repr(text[max(0, found.start() - 40) : found.end() + 40])


class Page(HTMLParser):
    """Reads a page or a picture and keeps what it should not have."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.policy = ""
        self._script: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        policies = [value for _, value in attrs if value and "script-src" in value]
        self.policy = self.policy or "".join(policies)
        if tag == "script" and ("type", "application/json") not in attrs:
            self._script = []
        strange = [name for name, _ in attrs if name not in ATTRIBUTES]
        linked = [value for _, value in attrs if value and re.search("url|javascript|expression", value)]
        if tag not in ELEMENTS or strange or linked:
            self.foreign.append(f"<{tag} {attrs}>")

    def handle_data(self, data: str) -> None:
        """Keep what a script says."""
        if self._script is not None:
            self._script.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Take note of a script that the page's policy does not name."""
        if tag == "script" and self._script is not None:
            digest = base64.b64encode(hashlib.sha256("".join(self._script).encode()).digest()).decode()
            if f"script-src 'sha256-{digest}'" not in self.policy:
                self.foreign.append(f"<script>{''.join(self._script)[:40]}")
            self._script = None

    def handle_comment(self, data: str) -> None:
        """Take note of a comment, which mygpt never writes."""
        self.foreign.append(f"<!--{data}")

    def unknown_decl(self, data: str) -> None:
        """Take note of a marked section."""
        self.foreign.append(f"<![{data}")


def active_in_page(text: str) -> str:
    """Return what acts in HTML or SVG, or an empty string."""
    page = Page()
    page.feed(text)
    page.close()
    return active(text) or "".join(page.foreign[:1])
