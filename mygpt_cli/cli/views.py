"""The views of `mygpt inspect` that show a text or the weights: one function each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mygpt_cli.cli.sampling import open_checkpoint
from mygpt_cli.errors import TextError, UsageError

if TYPE_CHECKING:
    from mygpt_cli.checkpoint import Checkpoint
    from mygpt_cli.corpus import Chunk
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.inspection.copied import Copied
    from mygpt_cli.ui.texts import Shown

WRITTEN = 200  # tokens that a model writes to see what it copies


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; `prompt` and `file` are what a view looks at, if anything."""

    folder: str | None
    checkpoint: str | None
    prompt: str | None
    file: str | None
    other: str | None
    steps: int | None
    device: str
    quantize: str | None
    sampling: "Sampling"
    quiet: bool
    shown: "Shown"

    def open(self, other: str | None = None) -> "Checkpoint":
        """Load the checkpoint, or another one, with its weights as they are unless they are to be rounded."""
        which = (other, None) if other else (self.folder, self.checkpoint)
        quantize = self.quantize or "none"
        return open_checkpoint(*which, device=self.device, quantize=quantize, quiet=self.quiet)

    def chunks(self) -> "list[Chunk]":
        """Return the text to look at, or nothing."""
        from mygpt_cli.corpus import Chunk, open_text

        if self.file is not None:
            return list(open_text(self.file).chunks())
        return [Chunk(self.prompt, True)] if self.prompt else []


def one_view(flags: Mapping[str, object]) -> str | None:
    """Return the name of the view whose flag was given; UsageError names them where there are several."""
    given = [flag for flag, value in flags.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different views", "ask for one at a time")
    return given[0] if given else None


def show_view(name: str, request: Request) -> None:
    """Show the view with this name; UsageError for a prompt and a file at once."""
    if request.prompt is not None and request.file is not None:
        raise UsageError("--prompt and --text both give a text", "give one")
    VIEWS[name](request)


def _tokens(request: Request) -> None:
    from mygpt_cli.inspection.surprisal import encode
    from mygpt_cli.inspection.tokens import cut
    from mygpt_cli.ui.texts import show_tokens

    chunks = request.chunks()
    tokenizer = request.open().tokenizer
    show_tokens(cut(tokenizer, encode(tokenizer, chunks), top=request.shown.top), request.shown)


def _weights(request: Request) -> None:
    from mygpt_cli.inspection.weights import weights_of
    from mygpt_cli.ui.texts import show_weights

    if request.prompt is not None or request.file is not None:
        raise UsageError("--weights shows the tensors, and takes no text", "leave --prompt and --text out")
    show_weights(weights_of(request.open().model), request.shown)


def _surprisal(request: Request) -> None:
    from mygpt_cli.inspection.copied import find_copied, training_text
    from mygpt_cli.inspection.surprisal import as_validated, encode, surprisal
    from mygpt_cli.ui.progress import progress_bar
    from mygpt_cli.ui.texts import show_surprisal

    chunks = request.chunks()
    checkpoint = request.open()
    text, tokenizer = _text(chunks), checkpoint.tokenizer
    with progress_bar(quiet=request.quiet) as progress:
        view = surprisal(as_validated(checkpoint), tokenizer, encode(tokenizer, chunks), progress)
        corpus = training_text(checkpoint)
        copied: Copied | str = (
            corpus if isinstance(corpus, str) else find_copied(text, corpus.train, progress=progress)
        )
    show_surprisal(view, tokenizer, copied, text, request.shown)


def _copied(request: Request) -> None:
    from mygpt_cli.inspection.copied import find_copied, training_text
    from mygpt_cli.ui.progress import progress_bar
    from mygpt_cli.ui.texts import show_copied

    if request.prompt is None and request.file is None:
        raise UsageError(
            "--copied needs a text", "give one with --text FILE, or have one written with --prompt"
        )
    given = None if request.file is None else _text(request.chunks())
    checkpoint = request.open()
    corpus = training_text(checkpoint)
    if isinstance(corpus, str):
        raise TextError(
            f"the text that {checkpoint.folder} was trained on is not at hand: {corpus}",
            "put its files back where config.toml of the run names them",
        )
    with progress_bar(quiet=request.quiet) as progress:
        text = _written(checkpoint, request) if given is None else given
        copied = find_copied(text, corpus.train, progress=progress)
    show_copied(copied, text, request.shown)


def _written(checkpoint: "Checkpoint", request: Request) -> str:
    """Let the model write, with the filters and the seed of `sample`."""
    from mygpt_cli.generation.stream import Sample, generate, read_prompt

    start = read_prompt(checkpoint.tokenizer, request.prompt or "", checkpoint.config.context)
    sampling = replace(request.sampling, max_new_tokens=request.steps or WRITTEN)
    events = generate(checkpoint.model, checkpoint.tokenizer, [start], sampling)
    text = next(event.text for event in events if isinstance(event, Sample))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _compare(request: Request) -> None:
    from mygpt_cli.inspection.compare import compare
    from mygpt_cli.inspection.surprisal import Surprisal, as_validated, encode, surprisal
    from mygpt_cli.ui.progress import progress_bar
    from mygpt_cli.ui.texts import show_compare

    chunks = request.chunks()
    first, other = request.open(), request.open(request.other)
    texts: list[Surprisal] = []
    prompt: tuple[int, ...] = ()
    with progress_bar(quiet=request.quiet) as progress:
        for side in (first, other) if chunks else ():
            ids = encode(side.tokenizer, chunks)
            model = as_validated(side)
            if request.prompt is not None and side is first:
                prompt = tuple(ids.tolist())
            if len(ids) > 1 or request.file is not None:
                texts.append(surprisal(model, side.tokenizer, ids, progress))
    both = (texts[0], texts[1]) if len(texts) == 2 else None
    view = compare(first, other, prompt=prompt, texts=both, top=request.shown.top)
    show_compare(view, first.tokenizer, request.shown)


def _text(chunks: "list[Chunk]") -> str:
    return "".join(chunk.text for chunk in chunks)


VIEWS: dict[str, Callable[[Request], None]] = {
    "--tokens": _tokens,
    "--text": _surprisal,
    "--copied": _copied,
    "--compare": _compare,
    "--weights": _weights,
}
