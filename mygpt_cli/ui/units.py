"""Numbers as a person reads them."""


def count(number: int) -> str:
    """Write 1234567 as 1,234,567."""
    return f"{number:,}"


def count_of(number: int, thing: str) -> str:
    """Write 1 as `1 layer` and 4 as `4 layers`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def size(number: int) -> str:
    """Write a number of bytes as 512 B, 64 kB, 1.1 MB or 2.4 GB."""
    if number < 1000:
        return f"{number} B"
    power = 1 if number < 999_500 else 2 if number < 999_500_000 else 3
    value, unit = number / 1000**power, " kMG"[power]
    return f"{value:.1f} {unit}B" if value < 9.95 else f"{value:.0f} {unit}B"


def duration(seconds: float) -> str:
    """Write seconds as 0.8 s, 42 s, 1 m 40 s or 2 h 05 m."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def age(seconds: float) -> str:
    """Write how long ago something was, in one unit: 40 s, 12 m, 5 h or 3 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
