"""Every setting of generation, with its help and range beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mygpt_cli.base.errors import UsageError, did_you_mean, join_faults
from mygpt_cli.config.knobs import flag_of, knob, knobs

COOLEST = 1e-6
FARTHEST = 1e6
HINT = "`mygpt sample --help-all` lists every setting with its range"

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
        "How boldly to choose: below 1 the likely tokens become likelier, above 1 all become more alike; 0 "
        "always takes the likeliest.",
        "Choice of tokens",
        0.8,
        at_least=0,
        at_most=FARTHEST,
    )
    top_k: int = knob(
        "Sample from the K likeliest tokens only.", "Choice of tokens", 0, at_least=0, means="off"
    )
    top_p: float = knob(
        "Sample from the smallest set of tokens whose probabilities add up to X, such as 0.9.",
        "Choice of tokens",
        1.0,
        above=0,
        at_most=1,
        means="off",
    )
    min_p: float = knob(
        "Sample only from tokens at least X times as probable as the likeliest, such as 0.05.",
        "Choice of tokens",
        0.0,
        at_least=0,
        below=1,
        means="off",
    )
    typical_p: float = knob(
        "Locally typical sampling: sample from the tokens whose surprisal is nearest to the expected one and "
        "whose probabilities add up to X.",
        "Choice of tokens",
        1.0,
        above=0,
        at_most=1,
        expert=True,
        means="off",
    )
    filters: str = knob(
        "Filters to apply, separated by commas, in this order.",
        "Choice of tokens",
        "",
        expert=True,
        means=", ".join(FILTERS),
    )
    seed: int = knob(
        "Seed of the random draws: the same seed gives the same text.",
        "Choice of tokens",
        at_most=2**63 - 1,
        at_least=0,
        means="a new one each time",
    )

    repetition_penalty: float = knob(
        "Avoid tokens that the prompt or the text already has, by dividing their logits by X, such as 1.1.",
        "Repetition",
        1.0,
        above=0,
        at_most=FARTHEST,
        means="off",
    )
    frequency_penalty: float = knob(
        "Subtract X from a token's logit for each time that it has been written.",
        "Repetition",
        0.0,
        at_least=-FARTHEST,
        at_most=FARTHEST,
        expert=True,
        means="off",
    )
    presence_penalty: float = knob(
        "Subtract X once from the logit of every token that has been written.",
        "Repetition",
        0.0,
        at_least=-FARTHEST,
        at_most=FARTHEST,
        expert=True,
        means="off",
    )
    no_repeat_ngram: int = knob(
        "Never write the same N tokens in a row twice.",
        "Repetition",
        0,
        at_least=0,
        at_most=1_000_000,
        expert=True,
        means="off",
    )

    logit_bias: tuple[str, ...] = knob(
        "Add X to the logit of a token, named by its id (a whole number) or its text; may be repeated.",
        "Words",
        (),
        expert=True,
    )
    ban: tuple[str, ...] = knob("Never write this text; may be repeated.", "Words", (), expert=True)
    begin_with: str = knob("Begin the continuation with this text.", "Words", "", expert=True)

    max_new_tokens: int = knob(
        "Write at most this many tokens.", "Length", 200, at_least=1, at_most=1_000_000_000
    )
    min_new_tokens: int = knob(
        "Do not end the text before this many tokens.", "Length", 0, at_least=0, expert=True
    )
    num_samples: int = knob("Write this many texts from each prompt.", "Length", 1, at_least=1, at_most=1000)
    stop: tuple[str, ...] = knob("Stop before this text, which is left out; may be repeated.", "Length", ())
    ignore_end: bool = knob("Never choose an end-of-text token.", "Length", False, expert=True)
    window: str = knob(
        "What to do once the context is full: half drops its older half, exact drops one token at a time and "
        "is slow.",
        "Length",
        "half",
        choices=("half", "exact"),
        expert=True,
    )
    speculate: bool = knob(
        "Prompt-lookup decoding: guess that repeated passages continue as before. The text stays the same; "
        "repetitive passages come faster.",
        "Length",
        False,
        expert=True,
    )

    beams: int = knob(
        "Beam search: look for the most probable text, keeping the N best at each step, instead of sampling.",
        "Beam search",
        1,
        at_least=1,
        at_most=1000,
        means="off",
    )
    length_penalty: float = knob(
        "How --beams compares texts of different length: above 0 favours long ones, below 0 short ones.",
        "Beam search",
        1.0,
        at_least=-10,
        at_most=10,
        expert=True,
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
                f"--num-samples {self.num_samples} is more than the {self.beams} texts that --beams finds"
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
            f"--filters: there is no filter '{name}'{did_you_mean(name, FILTERS)}"
            for name in named
            if name not in FILTERS
        ]
        return faults + [f"--filters names '{name}' twice" for name in FILTERS if named.count(name) > 1]

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
    named = [name.strip() for name in (given.get("filters") or ",".join(FILTERS)).split(",")]
    left_out = [name for name in FILTERS if field_of(name) in given and name not in named]
    if left_out:
        return [f"--{name} is set, but --filters leaves it out" for name in left_out]
    if given.get("beams", 1) > 1:
        drawing = [f"--{name}" for name in DRAWING if field_of(name) in given]
        have = "have" if len(drawing) > 1 else "has"
        sampled = f"{' and '.join(drawing)} {have} no effect with --beams, which does not sample; remove "
        faults = [f"{sampled}{'one' if len(drawing) == 1 else 'them or --beams'}"] if drawing else []
        if given.get("speculate"):
            faults.append(
                "--speculate has no effect with --beams, which follows several texts at once; remove one"
            )
        return faults
    if "length_penalty" in given:
        return ["--length-penalty has no effect without --beams; add --beams 5 or remove it"]
    return []


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
