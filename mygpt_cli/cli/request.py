"""What `mygpt inspect` was asked for, and how that is opened."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mygpt_cli.cli.sampling import open_checkpoint
from mygpt_cli.ui.units import count_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mygpt_cli.backends.interfaces import Decoder
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.generation.stream import Prompt
    from mygpt_cli.text.corpus import Chunk
    from mygpt_cli.ui.export import Shown


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line; `prompt` and `file` are what a view looks at, if anything."""

    folder: str | None
    checkpoint: str | None
    prompt: str | None
    file: str | None
    encoding: str
    other: str | None
    steps: int | None
    temperatures: tuple[float, ...]
    position: int | None
    layer: int | None
    head: int | None
    device: str
    quantize: str | None
    sampling: "Sampling"
    given: frozenset[str]  # the settings of `sampling` that were
    quiet: bool
    shown: "Shown"

    def open(self, other: str | None = None) -> "Checkpoint":
        """Load the checkpoint, or another one, with its weights as they are unless they are to be rounded."""
        which = (None, other) if other else (self.folder, self.checkpoint)
        return self._load(*which, self.quantize or "none", only_looks=True)[0]

    def _load(
        self, folder: str | None, flag: str | None, quantize: str | None, *, only_looks: bool = False
    ) -> "tuple[Checkpoint, Decoder]":
        loading: dict[str, Any] = {"device": self.device, "quantize": quantize, "quiet": self.quiet}
        loading["only_looks"] = only_looks
        return open_checkpoint(folder, flag, text_command="inspect --text", **loading)

    def start(self) -> "tuple[Checkpoint, Decoder, Prompt]":
        """Load the checkpoint as `sample` does, and read the prompt."""
        from mygpt_cli.generation.stream import read_prompt
        from mygpt_cli.ui.console import note

        loaded, decoder = self._load(self.folder, self.checkpoint, self.quantize)
        prompt = read_prompt(loaded.tokenizer, self.prompt or "", loaded.config.context)
        if prompt.note and not self.quiet:
            note(prompt.note)
        return loaded, decoder, prompt

    def show(self, checkpoint: "Checkpoint") -> "Shown":
        """Return how to show a view of a checkpoint, whose name and kind a page gives."""
        config, state = checkpoint.config, checkpoint.state or {}
        step = state.get("step")
        model = (
            f"{checkpoint.folder}: {config.arch}, {count_of(config.layers, 'layer')},"
            f" {count_of(config.heads, 'head')}, width {config.width}, context {config.context:,},"
            f" {config.vocab_size:,} tokens" + (f", step {step:,}" if isinstance(step, int) else "")
        )
        return replace(self.shown, model=model)

    def waiting(self, what: str) -> "AbstractContextManager[None]":
        """Show what is being done, where someone watches."""
        from mygpt_cli.ui.progress import waiting

        return waiting(what, quiet=self.quiet)

    def chunks(self) -> "list[Chunk]":
        """Return the text to look at, or nothing."""
        from mygpt_cli.text.corpus import Chunk, open_text

        if self.file is not None:
            return list(open_text(self.file, self.encoding).chunks())
        return [Chunk(self.prompt, True)] if self.prompt else []
