"""Names of runs: folders that every file system takes, with the letters of every script."""

import unicodedata

MOST_CHARACTERS = 60
MOST_BYTES = 200  # of the 255 that file systems allow, for what is put behind a name
# A letter keeps its marks, which in many scripts are the vowels, and a joiner inside a word.
LETTER = r"[[\p{L}\p{N}_]--[\u115f\u1160\u3164\uffa0]]\p{M}*(?:[\u200c\u200d](?=\p{L}))?"
DEVICE = r"(?i:(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]))\."  # on Windows, whatever follows the point


def name_of(text: str) -> str:
    """Turn any text into a name: its words, joined by hyphens, as far as there is room for them."""
    import regex  # with classes of characters that Python's own lacks

    words = regex.findall(rf"(?V1)(?:{LETTER}|[.-])+", unicodedata.normalize("NFC", text))
    kept, size = "", 0
    for grapheme in regex.findall(r"\X", "-".join(words).strip("-._")):
        size += len(grapheme.encode())
        if len(kept) + len(grapheme) > MOST_CHARACTERS or size > MOST_BYTES:
            break
        kept += grapheme
    return regex.sub(rf"^{DEVICE}", r"\1-", kept.strip("-._")) or "text"


def name_fault(name: str) -> str | None:
    """Say why a run cannot have this name, or None where it can."""
    import regex

    if not regex.fullmatch(rf"(?V1)(?! )(?:{LETTER}|[ .+-])+", name):
        return "cannot name a folder: use letters, digits, spaces, '.', '+', '-' and '_'"
    if len(name) > 100 or len(name.encode()) > MOST_BYTES:
        return f"is too long for a folder: at most 100 characters and {MOST_BYTES} bytes"
    if regex.match(DEVICE, name):
        return "is reserved for a device on Windows"
    return None
