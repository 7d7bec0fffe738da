"""From settings and a text to a trainer: what to compute on, what to compile, the tokens, and the plan."""

import math
import time
from dataclasses import replace
from typing import Any, Protocol

import torch

from mygpt_cli.backends.choice import check_compiler, compile_training
from mygpt_cli.base.devices import keep_freed_memory, pick_device, pick_dtype, total_memory, why_dtype
from mygpt_cli.base.processes import Processes
from mygpt_cli.base.progress import OnProgress
from mygpt_cli.config.knobs import flag_of
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.architectures import DEFAULT, find
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.ensemble import joined_config
from mygpt_cli.model.gpt import GPT
from mygpt_cli.text.corpus import Corpus
from mygpt_cli.tokens.dataset import cache_folder, prepare
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.training.budget import Budget
from mygpt_cli.training.events import Planned
from mygpt_cli.training.fitting import fit_steps, seconds_per_step
from mygpt_cli.training.fresh_weights import FreshWeights
from mygpt_cli.training.history import History
from mygpt_cli.training.memory import OPENED, fit_memory
from mygpt_cli.training.sizing import Plan, plan, start_settings
from mygpt_cli.training.trainer import Trainer

# Of English, in bits per byte: 5 to 8 after 100 characters, where the frequencies of letters alone give 4.8;
# 3.4 to 4 after 1,000; 3.2 after 10,000; 2.1 after 100,000.
FOR_WORDS, FOR_SENTENCES = 10_000, 100_000
OWN = {"files", "val_file", "init_from", "out", "name"}  # settings that processes need not have in common


class Pretrained(Protocol):
    """A trained model to begin from, or to go on with."""

    @property
    def config(self) -> ModelConfig:
        """The model's parts."""

    @property
    def model(self) -> GPT:
        """The model itself."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about it."""


class Preparation:
    """What all trainers of a run share; `notes` gathers what the user should know.

    A run begins from weights drawn from its seed, or from those of `start`, with which a `resumed` run goes
    on. `busy` is told what is being done, and how much of it is. Several `processes` prepare the same, and
    choose what the first of them has measured. Raises UsageError, CheckpointError, TextError or
    ResourceError for what cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus,
        busy: OnProgress,
        start: Pretrained | None = None,
        *,
        resumed: bool = False,
        processes: Processes | None = None,
    ) -> None:
        keep_freed_memory()
        self._busy = busy
        self._processes = processes or Processes()
        self._processes.check_same(_alike(settings, corpus))
        self._device = pick_device(settings.get("device", "auto"))
        self._processes.check_device(self._device)
        shard = settings.get("shard", False)
        self._mesh = self._processes.mesh(self._device) if shard else None
        chosen = settings.get("dtype", "auto")
        name = str(pick_dtype(chosen, self._device)) if self._processes.first else ""
        self._dtype = getattr(torch, self._processes.of(0, name).removeprefix("torch."))
        self._reasons = {"dtype": why_dtype(self._dtype, self._device)} if chosen == "auto" else {}
        self._settings = settings | {
            "dtype": str(self._dtype).removeprefix("torch."),
            "val_fraction": corpus.val_fraction,
        }
        compiles = "off" if shard else settings.get("compile", "auto")
        check_compiler(compiles, self._device)
        self._start, self._resumed = start, resumed
        if start and not resumed:
            self._settings |= start_settings(self._settings, start.config, start.tokenizer)
        architecture = find(settings.get("arch", DEFAULT))
        self._dataset = prepare(
            corpus,
            tokenizer=settings.get("tokenizer", "bpe"),
            vocab_size=settings.get("vocab_size"),
            existing=start.tokenizer if start else None,
            progress=busy,
            pattern=architecture.splitting,
        )
        self._fresh_weights = FreshWeights(self._dataset, self._processes)
        if start is None and not architecture.parts["tied"]:
            busy("counting which tokens are neighbours", 0.0)
            self._fresh_weights.count()
        busy("preparing to compute", 0.0)
        # Compiling began before torch was loaded, and may be done by now.
        self._compilation = compile_training(compiles, self._device, self._dtype, cache_folder() / "kernels")
        if self._processes.most(not self._compilation.compiled)[0] and self._compilation.compiled:
            self._compilation = self._compilation.without("another process could not compile")
        self._budget = Budget()
        self.notes: list[str] = [] if resumed or start is None else list(start.notes)
        if start is None and corpus.train.characters < FOR_WORDS:
            self.notes.append(
                f"{corpus.train.characters:,} characters are too few to learn words: the model will learn "
                f"only which letters follow which. Words take about {FOR_WORDS:,} characters, sentences "
                f"{FOR_SENTENCES:,}"
            )

    def plan(self, started: float | None = None) -> Plan:
        """Choose what the settings leave open; for a budget of time the speed is measured.

        That time is counted from `started`, in seconds of `time.perf_counter`, by default from now.
        """
        self._busy("measuring the speed of a step", 0.0)
        begun = time.perf_counter() if started is None else started

        def elapsed() -> float:
            seconds: float = self._processes.of(0, time.perf_counter() - begun)
            return seconds

        chosen = plan(self._settings, self._dataset, self._measured, elapsed)
        if chosen.steps is not None and self._compilation.compiled:
            config = chosen.config(chosen.steps)
            self._compilation = self._compilation.proved(lambda: self.new_trainer(config).update(0))
        self.notes += [*chosen.notes, *filter(None, [self._compilation.note])]
        return replace(chosen, reasons={**chosen.reasons, **self._reasons})

    def configuration(self, chosen: Plan, started: float, history: History | None = None) -> TrainConfig:
        """Return the configuration with as many steps as were asked for, or fit into the plan's time.

        That time is counted from `started`, in seconds of `time.perf_counter`, after the steps of `history`.
        """
        if chosen.seconds is None:
            return chosen.config(chosen.steps or 1)
        history = history or History()
        scratch = self.new_trainer(chosen.config(history.step + 100))
        steps, self._budget = fit_steps(chosen, scratch, started + chosen.seconds, history)
        self.notes += scratch.notes  # memory may not have sufficed
        parts = scratch.config
        return replace(
            chosen.config(history.step + steps), batch_size=parts.batch_size, accumulation=parts.accumulation
        )

    def new_trainer(self, config: TrainConfig) -> Trainer:
        """Return a trainer that begins from weights drawn from the seed, or from those of a checkpoint."""
        start = None if config.members > 1 else self._start  # which may be several models as one
        fitting = self._fitting(config)  # before anything is allocated
        model = GPT(start.config if start else self._shape(config))
        if start:
            model.load_state_dict(start.model.state_dict())
        else:
            self._fresh_weights.draw(model, config.seed)
        return self._trainer(config, fitting, model)

    def resumed_trainer(self, config: TrainConfig, history: History) -> Trainer:
        """Return a trainer that goes on once it has loaded its state; the settings are the checkpoint's."""
        assert self._start  # noqa: S101 - only of a run that goes on
        fitting = self._fitting(config)
        model = self._start.model
        if history.stage:  # what was saved may be several models joined, or come from an earlier version
            parts = {name: getattr(model.config, name) for name in ("context", "window", "windowed")}
            model = GPT(replace(self._shape(config), **parts))
        return self._trainer(config, fitting, model, history)

    def _shape(self, config: TrainConfig) -> ModelConfig:
        return config.model(self._dataset.tokenizer.vocab_size)

    def _fitting(self, config: TrainConfig) -> TrainConfig:
        others, memory = self._processes, total_memory(self._device)
        if self._device.type == "cpu":
            memory //= others.local_count
        least = -int(others.most(-memory)[0])
        start = 0
        if self._start and config.init_from:
            start = sum(weight.numel() for weight in self._start.model.parameters())
        kept = OPENED * start if self._device.type == "cpu" else 0.0
        size, resumed = self._dataset.tokenizer.vocab_size, self._resumed
        return fit_memory(config, size, least, others.count, start, kept, resumed=resumed)

    def _trainer(
        self, config: TrainConfig, fitting: TrainConfig, model: GPT, history: History | None = None
    ) -> Trainer:
        model.compute_dtype = self._dtype
        parallel = None
        if self._mesh is None:
            model.to(self._device)
        else:
            from mygpt_cli.training.shards import Shards

            parallel = Shards(model, self._mesh, self._processes)  # a block at a time goes to the device
        backend = self._compilation.backend(model)
        trainer = Trainer(
            fitting,
            self._dataset,
            model,
            history,
            backend,
            self._processes,
            parallel,
            self._fresh_weights,
        )
        trainer.budget = self._budget
        if fitting != config:
            trainer.notes.append(
                f"to fit into memory, each step takes {fitting.accumulation} micro-batches of "
                f"{fitting.batch_size} sequences; the effective batch stays the same"
            )
        return trainer

    def _measured(self, config: TrainConfig, limit: float) -> float:
        """Return the seconds per token, once it is certain that what was compiled works."""
        scratch, before = self.new_trainer(config), self._compilation
        self._compilation = before.proved(lambda: scratch.update(0))
        if self._compilation is not before:
            scratch = self.new_trainer(config)
            scratch.update(0)
        return seconds_per_step(scratch, limit) / scratch.tokens_per_step


def _alike(settings: Settings, corpus: Corpus) -> dict[str, Any]:
    """Return what has to be the same in all processes; files may lie elsewhere on other machines."""
    given = {flag_of(name): value for name, value in settings.items() if name not in OWN}
    return given | {"the text's fingerprint": corpus.fingerprint}


def planned(trainer: Trainer, chosen: Plan) -> Planned:
    """Say what a trainer will do, and why."""
    dataset, model = trainer.dataset, trainer.model
    saved = joined_config(model.config, trainer.config.members)
    return Planned(
        config=trainer.config,
        step=trainer.history.step,
        seconds=chosen.seconds,
        reasons=chosen.reasons,
        tokenizer=dataset.tokenizer.kind,
        vocab_size=dataset.tokenizer.vocab_size,
        train_tokens=len(dataset.train),
        train_characters=dataset.train_characters,
        val_tokens=len(dataset.val),
        parameters=sum(p.numel() for p in model.parameters()),
        saved_parameters=sum(math.prod(slot.shape) for slot in find(saved.arch).slots(saved) if slot.ours),
        tokens_per_step=trainer.tokens_per_step,
        device=trainer.device.type,
        dtype=str(model.compute_dtype).removeprefix("torch."),
    )
