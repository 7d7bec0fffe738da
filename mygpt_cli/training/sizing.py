"""What the user did not set: shape, batch, rates and steps, from the amount of text and of time.

Two things bound what a model can learn: the time, which says how many tokens it sees, and the text, which
says how often it sees the same ones. A larger model learns more from a token and takes longer for it: the
largest is taken that still sees enough of them. Text that is seen again and again is learned by heart:
dropout and tokens split at random hold against it.
"""

import math
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mygpt_cli.base.errors import TextError, UsageError, join_faults
from mygpt_cli.config.checks import BUDGETS, parse_duration
from mygpt_cli.config.course import MOST_STEPS
from mygpt_cli.config.knobs import flag_of
from mygpt_cli.config.settings import Settings, without
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.architectures import DEFAULT as DEFAULT_ARCHITECTURE
from mygpt_cli.model.architectures import find
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.training.schedule import warmup_steps
from mygpt_cli.training.shapes import (
    FEWEST_PARAMETERS,
    HEAD_WIDTH,
    MOST_PARAMETERS_PER_BYTE,
    PARAMETERS_PER_BYTE,
    SHAPES,
    choose_shape,
    cost,
    parameters,
    tokens_to_learn,
    with_shape,
)

DEFAULT_TIME = "5m"
DEFAULT = "the default"  # as a reason
VALIDATIONS = 10  # over a run, and as many saves, unless --eval-every or --save-every says otherwise
FEWEST_STEPS_BETWEEN_SAVES = 10

# What follows was measured with `benchmarks/sizing.py` and `benchmarks/ablations.py`.
STEPPING = 0.92  # fraction of the time left that goes into steps; validations and saves take the rest
MEASURED = (4, 128)  # the shape whose speed is measured,
SHORT_BUDGET = 20  # unless there are fewer seconds than these: then it is the smallest, whose steps are quick
CONTEXT = 256
FINE_TUNING_LR = 2e-4  # for a model as wide as GPT-2 small; narrower ones take more
# A step learns from so many tokens, but from no more than so many times the square root of the tokens that a
# model sees in all: where these are few, many small steps teach more than a few large ones (Zhang et
# al., 2024, How Does Critical Batch Size Scale in Pre-training?).
TOKENS_PER_STEP, TOKENS_PER_ROOT = 2048, 2.0
AVERAGE = 0.1
# Up to so many passes over the text; with more, this and Muon's learning rate grow, to twice as much at most.
WEIGHT_DECAY, PASSES_AT_FIRST_RATES = 0.1, 30
# Several models are better than one where each gets so many passes over the text and so many steps. With more
# passes than MOST_PASSES each they become no better.
FEWEST_PASSES, FEWEST_STEPS, MOST_PASSES, MOST_MEMBERS = 6, 50, 12, 6
INTERVALS = ("eval_every", "save_every", "log_every")


@dataclass(frozen=True)
class Plan:
    """A run in all but its number of steps, which is either given or what fits into `seconds`.

    It takes no more than `most_steps`, whatever the time. `reasons` says in a few words why a setting is what
    it is, for each that nobody set.
    """

    settings: Settings
    steps: int | None
    seconds: float | None
    notes: tuple[str, ...]
    reasons: Mapping[str, str]
    validation_steps: float  # what a validation costs, as a number of training steps
    most_steps: int = MOST_STEPS

    def validations(self, steps: int) -> int:
        """Return how many validations so many steps can afford: a twentieth of their time, or one.

        Those at the end of each of several models are among them.
        """
        ends = self.settings.get("members", 1) - 1
        return max(1, min(VALIDATIONS, int(0.05 * steps / self.validation_steps)) - ends)

    def config(self, steps: int) -> TrainConfig:
        """Return the configuration for this many steps; UsageError lists all that is wrong with it."""
        is_short = self.seconds is not None and self.seconds < SHORT_BUDGET
        saves = 1 if is_short else VALIDATIONS  # each takes as long as many small steps
        by_steps: Settings = {
            "warmup": warmup_steps(steps // (self.settings.get("members", 1))),
            "schedule": "linear",
            "decay_fraction": 0.6,
            "final_lr": 0.0,
            "eval_every": -(-steps // self.validations(steps)),
            "save_every": max(FEWEST_STEPS_BETWEEN_SAVES, -(-steps // saves)),
            "patience": 0 if self.seconds is None or self.settings.get("members", 1) > 1 else 3,
            "log_every": max(1, steps // 50),
        }
        return TrainConfig(**(by_steps | self.settings | {"steps": steps}))

    def with_new_intervals(self, steps: int, given: Collection[str]) -> "Plan":
        """Return a plan for another budget, whose intervals are chosen anew.

        Those that were given, or are not what is chosen for the earlier number of steps, remain.
        """
        then = replace(self, settings=without(self.settings, INTERVALS)).config(steps)
        anew = [name for name in INTERVALS if self.settings.get(name) == getattr(then, name)]
        return replace(self, settings=without(self.settings, set(anew) - set(given)))


class Choices:
    """Settings that are settled, and why each that nobody had set is what it is."""

    def __init__(self, settings: Settings) -> None:
        unset = [name for name, value in settings.items() if value is None]
        self.settings = without(settings, unset)
        self.reasons: dict[str, str] = {}

    def choose(self, name: str, value: Any, reason: str = "") -> None:
        """Settle what is still open; without a reason, nothing is said of it."""
        if name not in self.settings:
            self.settings[name] = value  # type: ignore[literal-required]
            if reason:
                self.reasons[name] = reason


def plan(
    settings: Settings,
    dataset: Dataset,
    seconds_per_token: Callable[[TrainConfig, float], float],
    elapsed: Callable[[], float] | None = None,
) -> Plan:
    """Choose what the settings leave open, from the text, the budget and, for a budget of time, the speed.

    `seconds_per_token` measures the speed of a configuration, for about as many seconds as its second
    argument says; `elapsed` tells how many seconds of the time are over. Raises TextError for a text too
    short to learn from and UsageError listing every fault of the settings.
    """
    train_tokens, val_tokens = len(dataset.train), len(dataset.val)
    if train_tokens < 3 or val_tokens < 2:
        raise TextError(
            f"the text is too short: {train_tokens} tokens to train on, {val_tokens} to validate on",
            "give a longer text, or --tokenizer char, which makes more tokens of it",
        )
    choices = Choices(settings)
    chosen, choose = choices.settings, choices.choose
    _choose_optimizer(choices, dataset)
    notes = _choose_context(choices, train_tokens)
    if not any(name in chosen for name in BUDGETS):
        choose("time", DEFAULT_TIME, "the default budget")
    steps, all_tokens, seconds, budget = _budget(chosen, train_tokens)
    per_sequence = chosen["context"] * chosen.get("accumulation", 1)
    usual_batch = chosen.get("batch_size", _sequences(TOKENS_PER_STEP, chosen["context"], train_tokens))
    usual_step = usual_batch * per_sequence

    cost_of = partial(cost, dataset.tokenizer.vocab_size)

    def tokens(layers: int, width: int) -> float:
        """Estimate how many tokens there is time for with this shape, those of all models together."""
        if seconds is None:
            return float(all_tokens or (steps or 0) * usual_step)
        return STEPPING * max(0.0, seconds - spent) / (pace * cost_of(layers, width))

    pace = spent = 0.0
    if seconds is not None:
        choices.reasons["steps"] = "as many as fit into the time, from the measured speed"
        base = with_shape(chosen, *(SHAPES[0] if seconds < SHORT_BUDGET else MEASURED))
        base |= {"dropout": 0.05, "bpe_dropout": 0.1, "batch_size": usual_batch}
        base.setdefault("weight_decay", WEIGHT_DECAY)
        base.setdefault("muon_lr", find(base["arch"]).muon_lr)
        pace = seconds_per_token(Plan(base, 100, None, (), {}, 1.0).config(100), min(1.0, seconds / 60))
        pace /= cost_of(base["layers"], base["width"])
        spent = elapsed() if elapsed else 0.0

    smallest_step = chosen.get("batch_size", 1) * per_sequence
    fewest = max(FEWEST_PASSES * train_tokens, FEWEST_STEPS * smallest_step)
    most = max(MOST_PASSES * train_tokens, FEWEST_STEPS * smallest_step)
    may_be_several = seconds is not None and not any(
        chosen.get(name) for name in ("members", "init_from", "shard")
    )

    def is_trained(layers: int, width: int) -> bool:
        """Whether a model of this shape learns well within the budget, or as many as are asked for."""
        needed = tokens_to_learn(layers, width, dataset, timed=seconds is not None)
        whole = tokens(layers, width)
        return whole >= needed and whole / chosen.get("members", 1) >= min(needed, fewest)

    def members(layers: int, width: int) -> int:
        """Return how many models of this shape are better than one within the budget."""
        count = int(tokens(layers, width) / fewest)
        return max(1, min(MOST_MEMBERS, count)) if may_be_several and is_trained(layers, width) else 1

    def fits_text(layers: int, width: int) -> bool:
        """Whether the text is long enough for a model of this shape."""
        to_spare = may_be_several and tokens(layers, width) >= MOST_MEMBERS * most
        per_byte = MOST_PARAMETERS_PER_BYTE if to_spare else PARAMETERS_PER_BYTE
        return parameters(layers, width) <= max(FEWEST_PARAMETERS, per_byte * dataset.train_bytes)

    layers, width, reason = choose_shape(chosen, fits_text, is_trained, members, budget)
    for name, value in with_shape(chosen, layers, width).items():
        choose(
            name,
            value,
            f"about {HEAD_WIDTH} dimensions each, but two at least" if name == "heads" else reason,
        )
    count = members(layers, width)
    each = tokens(layers, width) / chosen.get("members", count)
    ends_early = count == MOST_MEMBERS and each > most
    each = most if ends_early else each
    _choose_batch(choices, train_tokens, math.inf if steps or chosen.get("init_from") else each)
    tokens_per_step, most_steps = chosen["batch_size"] * per_sequence, MOST_STEPS
    if all_tokens:
        steps = max(1, round(all_tokens / tokens_per_step))
    if ends_early:
        most_steps = math.ceil(count * most / tokens_per_step)
        choices.reasons["steps"] = "more passes over this text would make the models no better"
        notes.append(f"training ends before {budget}: {choices.reasons['steps']}")
    choose("members", count, "better than one model that sees the text that often" if count > 1 else "")
    _choose_regularisation(choices, each / train_tokens, bool(dataset.tokenizer.ranks))
    # A prediction costs a third of what learning from it does, and several models predict as one wide model.
    wide = [cost_of(layers, number * width) for number in range(1, chosen["members"] + 1)]
    validation = max(1.0, val_tokens / 3 / tokens_per_step * statistics.mean(wide) / wide[0])
    return Plan(chosen, steps, seconds, tuple(notes), choices.reasons, validation, most_steps)


def _choose_optimizer(choices: Choices, dataset: Dataset) -> None:
    """Settle the architecture's own, the vocabulary and the learning rates."""
    chosen, choose = choices.settings, choices.choose
    choose("arch", DEFAULT_ARCHITECTURE)
    choose("bias", find(chosen["arch"]).parts.get("mlp_bias", False))
    if chosen.get("init_from"):
        choose("lr", FINE_TUNING_LR * math.sqrt(768 / chosen["width"]), "low, as suits fine-tuning")
    elif dataset.tokenizer.ranks and chosen.get("tokenizer", "bpe") == "bpe":
        choose("vocab_size", dataset.tokenizer.vocab_size, f"suits a text of {_size(dataset.train_bytes)}")
        chosen["vocab_size"] = dataset.tokenizer.vocab_size  # fewer than asked for, if the text has no more
    choose("vocab_size", None)
    adamw = chosen.get("optimizer") == "adamw"
    choose("lr", 1e-3 if adamw else 5e-3, DEFAULT)
    choose("beta1", 0.9 if adamw else 0.8)
    choose("beta2", 0.99 if adamw else 0.95)
    if "schedule" not in chosen:
        open_ones = {"schedule", "warmup", "decay_fraction"} - chosen.keys()
        choices.reasons |= dict.fromkeys(open_ones, DEFAULT)
    if "eval_every" not in chosen:
        choices.reasons["eval_every"] = "validation takes at most a twentieth of the time"


def _choose_context(choices: Choices, train_tokens: int) -> list[str]:
    """Settle the context; return what the user should know."""
    chosen, notes, longest = choices.settings, [], train_tokens - 1
    if chosen.get("context", 0) > longest:
        notes.append(f"--context is {longest} instead of {chosen['context']}: the text has no more tokens")
        chosen["context"] = longest
    reason = DEFAULT if longest >= CONTEXT else "all tokens of the text"
    choices.choose("context", min(CONTEXT, longest), reason)
    return notes


def _choose_batch(choices: Choices, train_tokens: int, seen: float) -> None:
    """Settle the batch of a model that is to see so many tokens in all."""
    tokens = min(TOKENS_PER_STEP, TOKENS_PER_ROOT * math.sqrt(seen))
    reason = f"{TOKENS_PER_STEP:,} tokens in each step"
    if tokens > train_tokens:
        reason = "the whole text in each step"
    elif tokens < TOKENS_PER_STEP:
        reason = "small steps, because there are few tokens"
    choices.choose("batch_size", _sequences(tokens, choices.settings["context"], train_tokens), reason)


def _sequences(tokens: float, context: int, train_tokens: int) -> int:
    """Return how many sequences make up about so many tokens, one at least, but no more than the text has."""
    return max(1, min(round(tokens / context), train_tokens // context))


def _choose_regularisation(choices: Choices, epochs: float, byte_pairs: bool) -> None:
    """Settle what holds against learning a text by heart that is seen this often."""
    chosen, choose = choices.settings, choices.choose
    reason = "suits the number of passes over the text"
    choose("dropout", _dropout(epochs, chosen["width"]), reason)
    if byte_pairs:
        choose("bpe_dropout", _bpe_dropout(epochs), reason)
    choose("bpe_dropout", 0.0)
    muon_lr, more = find(chosen["arch"]).muon_lr, min(2.0, max(1.0, epochs / PASSES_AT_FIRST_RATES))
    if chosen.get("optimizer") != "adamw":
        choose("weight_decay", round(WEIGHT_DECAY * more, 2), reason)
        choose("muon_lr", round(muon_lr * more, 3), reason)
    choose("weight_decay", WEIGHT_DECAY)
    choose("muon_lr", muon_lr)
    choose("average", AVERAGE, "better than the last weights alone")


def start_settings(settings: Settings, model: ModelConfig, tokenizer: Tokenizer) -> Settings:
    """Return what starting with a trained model settles; UsageError lists the settings that contradict it."""
    shape: Settings = {
        "arch": model.arch,
        "layers": model.layers,
        "heads": model.heads,
        "width": model.width,
        "softcap": model.softcap,
        "bias": model.mlp_bias and "bias" in find(model.arch).options,
    }
    faults = [
        f"--{name} {settings.get(name)} is not the checkpoint's {value}"
        for name, value in shape.items()
        if settings.get(name, value) != value
    ]
    for name, value in (("tokenizer", tokenizer.kind), ("vocab_size", tokenizer.vocab_size)):
        if settings.get(name, value) != value:
            faults.append(f"{flag_of(name)} {settings.get(name)} is not the checkpoint's own")
    context = settings.get("context", min(model.within_windows, CONTEXT))
    if context > model.context:
        faults.append(f"--context {context} is more than the checkpoint's {model.context}")
    if faults:
        raise UsageError(
            f"--init-from fixes the shape of the model: {join_faults(faults)}", "leave these settings out"
        )
    return shape | {
        "tokenizer": tokenizer.kind,
        "context": context,
        "optimizer": settings.get("optimizer", "adamw"),
    }


def _budget(chosen: Settings, tokens_per_epoch: int) -> tuple[int | None, float | None, float | None, str]:
    """Take the budget out of the settings: steps, tokens or seconds, and how it is called."""
    text, epochs, tokens = (chosen.pop("time", None), chosen.pop("epochs", None), chosen.pop("tokens", None))
    steps = chosen.pop("steps", None)
    if text is not None:
        return None, None, parse_duration(text), text
    if epochs is not None:
        return None, epochs * tokens_per_epoch, None, f"{epochs:g} epochs"
    if tokens is not None:
        return None, tokens, None, f"{tokens:,} tokens"
    return steps, None, None, f"{steps:,} steps"


def _size(number: int) -> str:
    """Write a number of bytes of text as kB or MB."""
    return f"{number / 1e6:,.1f} MB" if number >= 999_500 else f"{max(1, round(number / 1e3))} kB"


def _dropout(epochs: float, width: int) -> float:
    """Return the dropout for a text that is seen this often: more often, more; narrow, less."""
    wanted = max(0.0, 0.05 + 0.1 * math.log2(max(epochs, 1.0) / 10))
    return round(min(0.3, wanted * min(1.0, width / MEASURED[1])), 2)


def _bpe_dropout(epochs: float) -> float:
    """Return the fraction of tokens to split for a text that is seen this often."""
    return 0.0 if epochs < 2 else round(min(0.25, max(0.05, 0.1 + 0.05 * math.log2(epochs / 10))), 2)
