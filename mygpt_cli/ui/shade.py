"""Fractions as glyphs that fill a cell more or less, so that they can be told apart without colour."""

STEPS = (0.02, 0.125, 0.25, 0.5, 0.75)
SHADES = " ·░▒▓█"
ASCII_SHADES = " .:+#@"
STYLES = ("", "dim", "dim cyan", "cyan", "cyan", "bold cyan")
LEGEND = "· from 2%, ░ 12.5%, ▒ 25%, ▓ 50%, █ 75%"


def level(fraction: float) -> int:
    """Return how many of the steps a fraction (0 to 1) reaches."""
    return sum(fraction >= step for step in STEPS)


def shade(fraction: float, *, ascii_only: bool = False) -> str:
    """Return the glyph of a fraction (0 to 1)."""
    return (ASCII_SHADES if ascii_only else SHADES)[level(fraction)]


def shade_style(fraction: float) -> str:
    """Return the colour that goes with the glyph."""
    return STYLES[level(fraction)]


def legend(*, ascii_only: bool = False) -> str:
    """Say which glyph begins at which fraction."""
    return LEGEND.translate(str.maketrans(SHADES, ASCII_SHADES)) if ascii_only else LEGEND
