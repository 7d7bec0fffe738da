"""In which encoding a text may be: what a name means, what bytes look like, and what to do about it."""

import codecs
import re
import unicodedata
from encodings.aliases import aliases
from shlex import quote

from mygpt_cli.base.errors import did_you_mean

UTF8 = "utf-8"
MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NOT_OF_FILES = {"charmap", "idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}
# Those that people's files are in, by Python's names and by iconv's.
COMMON = {
    **{f"cp{number}": f"Windows-{number}" for number in range(1250, 1257)},
    **{"koi8_r": "KOI8-R", "cp866": "CP866", "cp437": "CP437", "mac_roman": "MACINTOSH"},
    **{
        "cp932": "CP932",
        "euc_jp": "EUC-JP",
        "gb18030": "GB18030",
        "big5hkscs": "BIG5-HKSCS",
        "cp949": "CP949",
    },
}
WESTERN = "cp1252"
MESS = 0.15  # of charset-normalizer: what looks more of a mess than this is nothing that it knows
AS_GOOD = 0.02  # a difference in mess that says nothing
ENOUGH = 4096  # bytes to tell an encoding from
SHOWN = 30  # characters


def encoding_fault(name: str) -> str | None:
    """Say why no text file can be in the encoding of this name, or None where one can."""
    try:
        " ".encode(name)
        known = codecs.lookup(name).name not in NOT_OF_FILES
    except (LookupError, ValueError):
        known = False
    if known:
        return None
    near = did_you_mean(name.lower().replace("-", "_"), aliases) or ", such as utf-8, cp1252 or utf-16"
    return f"'{name}' is not a text encoding{near}"


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding whose byte order mark a file begins with, if any."""
    return next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)


def wide_encoding(head: bytes) -> str | None:
    """Return the encoding of a text that begins so and has two or four bytes for each character, if it has.

    With a byte order mark that is `utf-16` or `utf-32`, without one the order of the bytes is a part of it.
    """
    marked = marked_encoding(head)
    if marked or b"\0" not in head:
        return None if marked == UTF8 else marked
    head = head[:ENOUGH]
    orders = [f"utf-{bits}-{order}" for bits in (32, 16) for order in ("le", "be")]
    return next((encoding for encoding in orders if _is_plausible(head, encoding)), None)


def _is_plausible(head: bytes, encoding: str) -> bool:
    """Whether a file that begins so is a text in this encoding, with two or four bytes for each character."""
    unit, last = (4, 3) if encoding.startswith("utf-32") else (2, 1)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head[: len(head) // unit * unit])
    except UnicodeDecodeError:
        return False
    # Letters of a script are neighbours; other bytes, taken for letters, come from all over Unicode.
    blocks = {ord(char) >> 8 for char in text}
    known = all(unicodedata.category(c) not in ("Cc", "Cn", "Co") or c in "\t\n\r\f" for c in text)
    high, low = (last, 0) if encoding.endswith("le") else (0, last)
    return known and 0 < 2 * len(blocks) <= len(text) and 0 in head[high::unit] and 0 not in head[low::unit]


def likely_encoding(data: bytes) -> tuple[str, str] | None:
    """Guess the encoding of bytes that are not UTF-8; return it with what the first of them are in it.

    None where nothing is likely, as in UTF-8 of which a few bytes are damaged.
    """
    as_utf8 = data.decode(UTF8, "replace")
    damaged = as_utf8.count("\ufffd")
    if damaged < sum(char > "\x7f" for char in as_utf8) - damaged:
        return None
    from charset_normalizer import from_bytes  # slow to load, and seldom needed

    first = next(re.finditer(rb"[\x80-\xff]", data)).start()
    lines = re.split(rb"[\r\n]+", data[max(0, first - SHOWN) : first + 16 * ENOUGH])
    sample = b"\n".join(line for line in lines if not line.isascii())[:ENOUGH]
    found = [match for match in from_bytes(sample, cp_isolation=list(COMMON)) if match.chaos < MESS]
    if not found:
        return None
    least = min(match.chaos for match in found)
    best = [match for match in found if match.chaos <= least + AS_GOOD]
    names = [name for match in best for name in match.could_be_from_charset if name in COMMON]
    # Of encodings that make as much sense, most texts are in the most common one.
    encoding = WESTERN if WESTERN in names else best[0].encoding
    text = sample.decode(encoding, "replace")
    at = next((place for place, char in enumerate(text) if char > "\x7f"), 0)
    text = text[text.rfind(" ", 0, at) + 1 :].split("\n")[0]
    return encoding, text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def conversion(name: str, encoding: str) -> str:
    """Say how a file in another encoding is read or converted."""
    known = COMMON.get(encoding, encoding.upper().replace("-LE", "LE").replace("-BE", "BE"))
    converts = f"iconv -f {known} -t UTF-8"
    if encoding == UTF8:
        return f"`--encoding {encoding}` reads it"
    if name == "standard input":
        return f"`--encoding {encoding}` reads it, `{converts}` in front of it converts it"
    return f"`--encoding {encoding}` reads it, `{converts} {quote(name)} > utf8.txt` converts it"
