"""Every setting of generation, with its help and range beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mygpt_cli.base.errors import UsageError, did_you_mean, join_faults
from mygpt_cli.config.knobs import flag_of, knob, knobs

COOLEST = 1e-6
FARTHEST = 1e6
HINT = "`mygpt sample --help` lists every setting"

# The order in which the filters act, each named as its setting: what a text may say at all, then how boldly
# to choose among what is left. It is the order of transformers, for those that transformers has.
FILTERS = (
    "logit-bias",
    "repetition-penalty",
    "frequency-penalty",
    "presence-penalty",
    "no-repeat-ngram",
    "ban",
    "min-new-tokens",
    "ignore-end",
    "begin-with",
    "temperature",
    "top-k",
    "top-p",
    "min-p",
    "typical-p",
)
DRAWING = FILTERS[FILTERS.index("temperature") :]  # these make sense only where there is a draw


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen, and how many; raises UsageError listing everything that is wrong."""

    temperature: float = knob(
        "Below 1 plays safe, above 1 takes risks; 0 always takes the best token.",
        "Choice",
        0.8,
        at_least=0,
        at_most=FARTHEST,
    )
    top_k: int = knob("Choose among the N best tokens; 0 for all.", "Choice", 0, at_least=0)
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
    typical_p: float = knob(
        "Choose among the tokens nearest to the expected surprise that hold this much of the probability.",
        "Choice",
        1.0,
        above=0,
        at_most=1,
    )
    filters: str = knob(
        f"Filters to apply, in this order, with commas; by default {', '.join(FILTERS)}.", "Choice", ""
    )
    seed: int = knob(
        "Seed of the random draws; the default is a new one.", "Choice", at_most=2**63 - 1, at_least=0
    )

    repetition_penalty: float = knob(
        "Divide the logits of tokens already seen; above 1 avoids them.",
        "Repetition",
        1.0,
        above=0,
        at_most=FARTHEST,
    )
    frequency_penalty: float = knob(
        "Take this from a token's logit for each time it was written.",
        "Repetition",
        0.0,
        at_least=-FARTHEST,
        at_most=FARTHEST,
    )
    presence_penalty: float = knob(
        "Take this from the logits of all tokens written so far.",
        "Repetition",
        0.0,
        at_least=-FARTHEST,
        at_most=FARTHEST,
    )
    no_repeat_ngram: int = knob(
        "Never repeat a sequence of N tokens; 0 for no limit.", "Repetition", 0, at_least=0, at_most=1_000_000
    )

    logit_bias: tuple[str, ...] = knob(
        "Add X to the logit of a token, given by id (a whole number) or text; repeatable.", "Words", ()
    )
    ban: tuple[str, ...] = knob("Text never to write; repeatable.", "Words", ())
    begin_with: str = knob("Text to begin with.", "Words", "")

    max_new_tokens: int = knob("Tokens to write at most.", "Length", 200, at_least=1, at_most=1_000_000_000)
    min_new_tokens: int = knob("Tokens to write before the text may end.", "Length", 0, at_least=0)
    num_samples: int = knob("Texts to write from the same prompt.", "Length", 1, at_least=1, at_most=1000)
    stop: tuple[str, ...] = knob("Text to stop before; repeatable.", "Length", ())
    ignore_end: bool = knob("Never choose the token that ends the text.", "Length", False)
    window: str = knob(
        "Past the context, half drops its older half when it is full; exact moves it token by token.",
        "Length",
        "half",
        choices=("half", "exact"),
    )
    speculate: bool = knob(
        "Read ahead what the text has said before: faster where it repeats itself, and the same text.",
        "Length",
        False,
    )

    beams: int = knob(
        "Search for the most probable text, N at a time.", "Beam search", 1, at_least=1, at_most=1000
    )
    length_penalty: float = knob(
        "Above 0 favours long texts, below 0 short ones.", "Beam search", 1.0, at_least=-100, at_most=100
    )

    def __post_init__(self) -> None:
        faults = [knob.fault(getattr(self, name)) for name, knob in knobs(Sampling).items()]
        if told := [fault for fault in faults if fault] + self._faults():
            raise UsageError(join_faults(told), HINT)

    def _faults(self) -> list[str]:
        faults = []
        if 0 < self.temperature < COOLEST:
            faults.append(f"--temperature must be 0 or at least {COOLEST:f}, not {self.temperature:g}")
        if self.min_new_tokens > self.max_new_tokens:
            faults.append(
                f"--min-new-tokens {self.min_new_tokens} is more than --max-new-tokens {self.max_new_tokens}"
            )
        if 1 < self.beams < self.num_samples:
            faults.append(
                f"{self.beams} beams give no more than {self.beams} samples: --num-samples {self.num_samples}"
            )
        for name in ("stop", "ban"):
            if "" in getattr(self, name):
                faults.append(f"--{name} must not be empty")
        faults += [
            f"--ban '{text}' is in --begin-with" for text in self.ban if text and text in self.begin_with
        ]
        for name in ("stop", "ban", "logit_bias", "begin_with"):
            texts = getattr(self, name)
            if not _is_unicode("".join(texts)):
                faults.append(f"{flag_of(name)} is not UTF-8 text")
        for entry in self.logit_bias:
            try:
                parse_bias(entry)
            except ValueError as error:
                faults.append(f"--logit-bias {error}")
        return faults + self._filter_faults()

    def _filter_faults(self) -> list[str]:
        if not self.filters:
            return []
        named = self.order
        faults = [
            f"--filters: there is no '{name}'{did_you_mean(name, FILTERS)}"
            for name in named
            if name not in FILTERS
        ]
        faults += [f"--filters names '{name}' twice" for name in FILTERS if named.count(name) > 1]
        for name in FILTERS:
            value = getattr(self, field_of(name))
            if name not in named and value != knobs(Sampling)[field_of(name)].given:
                faults.append(f"--{name} is set, and --filters leaves it out")
        return faults

    @property
    def order(self) -> tuple[str, ...]:
        """The names of all filters that may act, in their order."""
        return tuple(name.strip() for name in self.filters.split(",")) if self.filters else FILTERS

    @property
    def active(self) -> list[str]:
        """The names of the filters that have something to do, in their order.

        Temperature 0 is called `greedy`, and what would come after it has nothing left to choose from. Beam
        search draws nothing, and has no use for the filters that shape a draw.
        """
        names: list[str] = []
        for name in self.order:
            if self.beams > 1 and name in DRAWING:
                continue
            if name == "temperature" and self.greedy:
                return [*names, "greedy"]
            if getattr(self, field_of(name)) != (
                1.0 if name == "temperature" else knobs(Sampling)[field_of(name)].given
            ):
                names.append(name)
        return names

    @property
    def greedy(self) -> bool:
        """Whether the best token is always taken."""
        return self.temperature == 0


def parse_bias(entry: str) -> tuple[int | str, float]:
    """Split `TOKEN=X` or `TEXT=X` at its last `=`; a whole number is a token's id; ValueError otherwise.

    X is a finite number, or -inf, which bans the token.
    """
    target, equals, number = entry.rpartition("=")
    try:
        bias = float(number)
    except ValueError:
        bias = float("nan")
    if not equals or not target or not -float("inf") <= bias <= FARTHEST:
        raise ValueError(f"must be TOKEN=X or TEXT=X with a number X, not '{entry}'")
    return int(target) if target.isascii() and target.isdigit() else target, bias


def contradictions(given: Mapping[str, Any]) -> list[str]:
    """Say which of the settings that were given exclude each other."""
    if given.get("beams", 1) > 1:
        drawing = [f"--{name}" for name in DRAWING if field_of(name) in given]
        faults = [f"--beams contradicts {' and '.join(drawing)}: it draws nothing"] if drawing else []
        if given.get("speculate"):
            faults.append("--beams contradicts --speculate: it writes several texts")
        return faults
    return ["--length-penalty needs --beams"] if "length_penalty" in given else []


def resolve(given: Mapping[str, Any]) -> Sampling:
    """Make settings from those that were given, the seed among them; UsageError lists all that is wrong."""
    sampling = Sampling(**given)
    if faults := contradictions(given):
        raise UsageError(join_faults(faults), HINT)
    return sampling


def resolve_each(given: Mapping[str, Any]) -> list[Sampling]:
    """Make settings from those that were given, for each temperature in turn where that is a list."""
    temperatures = given.get("temperature")
    if not isinstance(temperatures, list):
        return [resolve(given)]
    return [resolve({**given, "temperature": degree}) for degree in temperatures]


def field_of(filter_name: str) -> str:
    """Return the name of the setting that a filter belongs to."""
    return filter_name.replace("-", "_")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
