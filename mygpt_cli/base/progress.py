"""How work that takes long says how far it is."""

from collections.abc import Callable

OnProgress = Callable[[str, float], None]  # told what is being done, and the fraction of it that is done
