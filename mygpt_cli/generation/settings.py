"""Every setting of generation, with its help and range beside it."""

from dataclasses import dataclass, fields
from typing import Any

from mygpt_cli.config import Limits, knob
from mygpt_cli.errors import UsageError, join_faults

COOLEST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen, and how many; raises UsageError listing everything that is wrong."""

    temperature: float = knob(
        "Below 1 plays safe, above 1 takes risks; 0 always takes the best token.",
        "Choice",
        0.8,
        at_least=0,
        at_most=1e6,
    )
    top_k: int = knob("Choose among the K best tokens; 0 for all.", "Choice", 0, at_least=0)
    top_p: float = knob(
        "Choose among the fewest tokens that hold this much of the probability.",
        "Choice",
        1.0,
        above=0,
        at_most=1,
    )
    min_p: float = knob(
        "Choose among tokens at least this probable, as a share of the best.",
        "Choice",
        0.0,
        at_least=0,
        below=1,
    )
    seed: int = knob(
        "Seed of the random draws; the default is a new one.", "Choice", at_most=2**63 - 1, at_least=0
    )
    max_new_tokens: int = knob("Tokens to write at most.", "Length", 200, at_least=1, at_most=1_000_000_000)
    num_samples: int = knob("Texts to write from the same prompt.", "Length", 1, at_least=1, at_most=1000)
    stop: tuple[str, ...] = knob("Text to stop before; may be given several times.", "Length", ())

    def __post_init__(self) -> None:
        faults = [limits_of(f.name).fault(f.name, getattr(self, f.name)) for f in fields(self)]
        if 0 < self.temperature < COOLEST:
            faults.append(f"--temperature must be 0 or at least {COOLEST:f}, not {self.temperature:g}")
        if "" in self.stop:
            faults.append("--stop must not be empty")
        if told := [fault for fault in faults if fault]:
            raise UsageError(join_faults(told), "`mygpt sample --help` lists every setting")

    @property
    def greedy(self) -> bool:
        """Whether the best token is always taken."""
        return self.temperature == 0 or self.top_k == 1


def limits_of(name: str) -> Limits:
    """Return the help and range of a setting."""
    limits: Limits = Sampling.__dataclass_fields__[name].metadata["limits"]
    return limits


def default_of(name: str) -> Any:
    """Return the value of a setting that is not given."""
    return Sampling.__dataclass_fields__[name].default
