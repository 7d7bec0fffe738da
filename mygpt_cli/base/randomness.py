"""Seeds for independent streams of random numbers, each a function of one seed and a path."""

import hashlib


def derive(seed: int, *path: int | str) -> int:
    """Return a 63-bit seed for the stream named by the path, such as `derive(seed, "dropout", step)`."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
