"""Every setting, with its help and range beside it.

`Settings` holds what was set anywhere; `training.sizing` fills in what was not, and the
result is a `TrainConfig`: complete, validated, and written into the run folder as `config.toml`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.checks import faults_of
from mygpt_cli.config.course import MOST_STEPS, Course
from mygpt_cli.config.knobs import flag_of, knob, knobs
from mygpt_cli.config.settings import Settings
from mygpt_cli.model.architectures import DEFAULT, TRAINABLE, configure, find
from mygpt_cli.model.config import LONGEST_CONTEXT, ModelConfig
from mygpt_cli.model.windows import windowed

WITHOUT_FLAG = ("files", "corrections")  # arguments, and what a run writes down


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training run depends on; raises UsageError listing everything that is wrong."""

    files: tuple[str, ...] = knob("Texts to train on.", "Text", ())
    val_file: str | None = knob("Validate on this file instead of on the end of the text.", "Text", None)
    val_fraction: float = knob(
        "Fraction of the text, taken from its end, that is kept for validation; unless set, a million "
        "characters at most.",
        "Text",
        0.1,
        above=0,
        at_most=0.5,
        expert=True,
    )
    encoding: str = knob("Encoding of the text files, such as cp1252 or utf-16.", "Text", "utf-8")
    errors: str = knob(
        "What to do with bytes that are invalid in the encoding: stop, or replace each by �.",
        "Text",
        "strict",
        choices=("strict", "replace"),
        expert=True,
    )

    tokenizer: str = knob(
        "What tokens are: char (characters), bpe (byte pairs learned from the text), or a tiktoken encoding "
        "such as gpt2.",
        "Text",
        "bpe",
    )
    vocab_size: int | None = knob(
        "Number of tokens in the vocabulary that bpe learns.",
        "Text",
        at_least=2,
        at_most=131_072,
        means="one that suits the size of the text",
    )

    init_from: str | None = knob(
        "Fine-tune this checkpoint: a run, or a Hugging Face folder. Its tokenizer and shape are kept.",
        "Model",
        None,
    )
    arch: str = knob("Architecture of the model.", "Model", DEFAULT, choices=TRAINABLE)
    layers: int = knob("Number of transformer layers.", "Model", at_least=1, at_most=1000)
    heads: int = knob("Number of attention heads in each layer.", "Model", at_least=1, at_most=1000)
    width: int = knob(
        "Width of the residual stream: how many numbers stand for each token.",
        "Model",
        at_least=2,
        at_most=100_000,
    )
    context: int = knob(
        "Context length: how many tokens each sequence of training has.",
        "Model",
        at_least=2,
        at_most=LONGEST_CONTEXT,
    )
    dropout: float = knob(
        "Fraction of activations set to zero in training, against memorising.", "Model", at_least=0, below=1
    )
    bpe_dropout: float = knob(
        "Fraction of tokens split into smaller ones in training, against memorising.",
        "Model",
        at_least=0,
        below=1,
        expert=True,
    )
    softcap: float = knob(
        "Soft cap of the output logits, for --arch nanochat.",
        "Model",
        0.0,
        at_least=0,
        below=1e6,
        expert=True,
        means="off",
    )
    bias: bool = knob("Give norms and linear layers biases, for --arch gpt2.", "Model", expert=True)

    time: str | None = knob(
        "Train for about this long (90s, 5m, 1h30m), tokenizing included; a small text may need less.",
        "Budget (one of these)",
        None,
        means="5m if no other budget is given",
    )
    steps: int = knob(
        "Train for this many optimizer steps.",
        "Budget (one of these)",
        at_least=1,
        at_most=MOST_STEPS,
        means="as many as fit into the time",
    )
    epochs: float | None = knob(
        "Train for this many passes over the text.", "Budget (one of these)", None, above=0, at_most=1_000_000
    )
    tokens: int | None = knob(
        "Train on this many tokens, such as 20M.",
        "Budget (one of these)",
        None,
        at_least=1,
        at_most=10**15,
        expert=True,
    )
    corrections: tuple[tuple[int, int], ...] = knob(
        "Total steps as adjusted to keep a budget of time: [from step, total] pairs.",
        "Budget (one of these)",
        (),
    )

    batch_size: int = knob(
        "Sequences in one forward pass, each of --context tokens.",
        "Optimizer",
        at_least=1,
        at_most=1_000_000,
    )
    accumulation: int = knob(
        "Forward passes whose gradients are added up for one optimizer step.",
        "Optimizer",
        1,
        at_least=1,
        at_most=100_000,
        expert=True,
    )
    optimizer: str = knob(
        "Optimizer of the weight matrices; everything else is always trained by AdamW.",
        "Optimizer",
        "muon",
        choices=("muon", "adamw"),
        expert=True,
    )
    lr: float = knob("Peak learning rate of AdamW.", "Optimizer", above=0, at_most=10)
    muon_lr: float = knob("Peak learning rate of Muon.", "Optimizer", above=0, at_most=10, expert=True)
    weight_decay: float = knob(
        "Weight decay of the matrices, scaled by the learning rate.",
        "Optimizer",
        at_least=0,
        at_most=100,
        expert=True,
    )
    beta1: float = knob(
        "AdamW's beta1, the momentum of the gradient.", "Optimizer", at_least=0, below=1, expert=True
    )
    beta2: float = knob(
        "AdamW's beta2, the momentum of the squared gradient.", "Optimizer", at_least=0, below=1, expert=True
    )
    clip: float = knob(
        "Clip the gradient to this norm; 0 turns clipping off.", "Optimizer", 1.0, at_least=0, expert=True
    )

    schedule: str = knob(
        "How the learning rate falls after the warm-up.",
        "Schedule",
        choices=("linear", "cosine", "constant"),
        expert=True,
    )
    warmup: int = knob(
        "Warm-up: steps over which the learning rate rises to its peak.", "Schedule", at_least=0, expert=True
    )
    decay_fraction: float = knob(
        "Fraction of the steps, at the end, over which the learning rate falls.",
        "Schedule",
        at_least=0,
        at_most=1,
        expert=True,
        formerly="decay_share",
    )
    final_lr: float = knob(
        "Learning rate at the end, as a fraction of its peak.",
        "Schedule",
        at_least=0,
        at_most=1,
        expert=True,
    )

    members: int = knob(
        "Train this many models, one after another, and deliver them as one that averages what they predict.",
        "Schedule",
        1,
        at_least=1,
        at_most=16,
        expert=True,
    )
    average: float = knob(
        "Validate and save an average of the weights over the last steps: this fraction of those so far; 0: "
        "no average.",
        "Schedule",
        0.0,
        at_least=0,
        at_most=0.5,
        expert=True,
    )
    patience: int = knob(
        "End early after this many validations without improvement; 0: never.",
        "Schedule",
        at_least=0,
        expert=True,
    )

    name: str | None = knob(
        "Name of the run, to which a number is added.", "Run", None, means="the name of the text"
    )
    out: str = knob("Folder in which runs are kept.", "Run", "checkpoints", expert=True)
    seed: int = knob(
        "Seed of everything random: the same seed gives the same run.",
        "Run",
        1337,
        at_least=0,
        at_most=2**63 - 1,
    )
    device: str = knob("Device to train on.", "Run", "auto", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = knob(
        "Number format of the matrix products.",
        "Run",
        "auto",
        choices=("auto", "float32", "bfloat16"),
        expert=True,
    )
    compile: str = knob(
        "Train with compiled code: where that is impossible, auto uses plain PyTorch, and on fails.",
        "Run",
        "auto",
        choices=("auto", "on", "off"),
        expert=True,
    )
    shard: bool = knob(
        "Share out the model too among several processes, where it does not fit on one GPU.",
        "Run",
        False,
        expert=True,
    )
    tensorboard: bool = knob("Also write event files for TensorBoard.", "Run", False, expert=True)
    eval_every: int = knob("Steps between validations.", "Intervals", at_least=1, expert=True)
    save_every: int = knob("Steps between saves of the run, to last/.", "Intervals", at_least=1, expert=True)
    keep_every: int = knob(
        "Steps between checkpoints that are kept for good, in kept/.",
        "Intervals",
        0,
        at_least=0,
        expert=True,
        means="none",
    )
    log_every: int = knob("Steps between progress lines.", "Intervals", at_least=1, expert=True)

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        as_settings(values)

    @property
    def course(self) -> Course:
        """How many steps there are in all, from each step on."""
        return self.corrections or ((0, self.steps),)

    @property
    def validation_interval(self) -> int:
        """Steps between validations; above all steps where the plan is to validate once, at the end."""
        return self.eval_every if self.eval_every < self.course[0][1] else MOST_STEPS + 1

    def corrected(self, step: int, steps: int) -> "TrainConfig":
        """Return the same training, of another number of steps from this step on."""
        return replace(self, steps=steps, corrections=(*self.course, (step, steps)))

    def in_smaller_parts(self) -> "TrainConfig":
        """Return the same training, the sequences of each step taken in smaller parts than before."""
        parts = next(n for n in range(2, self.batch_size + 1) if self.batch_size % n == 0)
        return replace(self, batch_size=self.batch_size // parts, accumulation=self.accumulation * parts)

    def model(self, vocab_size: int) -> ModelConfig:
        """Return the shape of the model for a vocabulary of this size.

        Attention of some architectures looks back over windows, as long as the sequences of training.
        """
        context: dict[str, Any] = {"context": self.context}
        if find(self.arch).windowed:
            context = windowed(self.context, self.layers, self.width // self.heads)
        return configure(
            self.arch,
            vocab_size=vocab_size,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            **context,
            dropout=self.dropout,
            **{name: getattr(self, name) for name in find(self.arch).options},
        )


def setting_faults(settings: Mapping[str, Any], called: Callable[[str], str] = flag_of) -> list[str]:
    """List what is wrong with the given settings, known so far or complete.

    `called` returns the name of a setting where these come from.
    """
    return faults_of(settings, knobs(TrainConfig), called)


def as_settings(
    given: Mapping[str, Any],
    called: Callable[[str], str] = flag_of,
    faults: Sequence[str] = (),
    hint: str = "`mygpt train --help-all` lists every setting with its range",
) -> Settings:
    """Return what a source has given, once nothing is wrong with it; UsageError lists all that is.

    `faults` were found before; `called` returns the name of a setting where these come from.
    """
    if found := [*faults, *setting_faults(given, called)]:
        raise UsageError(found, hint)
    return cast(Settings, given)
