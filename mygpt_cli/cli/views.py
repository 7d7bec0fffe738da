"""The views of `mygpt inspect`: a function each, which computes what there is to see and shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mygpt_cli.base.errors import CheckpointError, TextError, UsageError
from mygpt_cli.cli.request import Request
from mygpt_cli.cli.sampling import find_folder, run_or_path
from mygpt_cli.config.knobs import flag_of

if TYPE_CHECKING:
    from mygpt_cli.backends.interfaces import Decoder
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.generation.stream import Prompt
    from mygpt_cli.inspection.copied import Copied
    from mygpt_cli.inspection.trace import Trace
    from mygpt_cli.text.corpus import Chunk
    from mygpt_cli.tokens.tokenizer import Tokenizer

WRITTEN = 200  # tokens that a model writes to see what it copies


@dataclass(frozen=True)
class View:
    """A view, and what it shows of a prompt where it cannot do without one.

    It `chooses` tokens as the settings of sampling say, and shows the best of them where there is a `top`.
    """

    show: Callable[[Request], None]
    of_a_prompt: str = ""
    chooses: bool = False
    top: bool = False


def one_view(flags: Mapping[str, object]) -> str | None:
    """Return the name of the view whose flag was given; UsageError names them where there are several."""
    given = [flag for flag, value in flags.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different views", "choose one of them")
    return given[0] if given else None


def show_view(name: str | None, request: Request) -> None:
    """Show the view with this name, or without one what the checkpoint is.

    UsageError for what the view lacks, and for flags that belong to another one.
    """
    prompt, view = request.prompt, VIEWS[name]
    if prompt is not None and request.file is not None:
        raise UsageError("--prompt and --text both give a text", "give one of them")
    if prompt is None and view.of_a_prompt:
        raise UsageError(
            f"{name} shows {view.of_a_prompt} a prompt", 'give one, such as --prompt "Once upon a time"'
        )
    if request.position is not None and name != "--life":
        raise UsageError("--position has no effect without --life", "add --life")
    if (request.layer is not None or request.head is not None) and name not in ("--attention", "--life"):
        raise UsageError(
            "--layer and --head have no effect without --attention or --life", "add one of these"
        )
    if request.shown.explain and name is None:
        raise UsageError("--explain has no effect without a view", "choose one, such as --weights")
    _refuse_ignored(name, request)
    with request.waiting("loading the model"):
        import_module("torch")  # which every view needs, and which takes a second or more
    view.show(request)


def _refuse_ignored(name: str | None, request: Request) -> None:
    """Raise UsageError for settings of the choice of tokens that do nothing in this view."""
    view, reads = VIEWS[name], name == "--copied" and request.file is not None
    ignored = [] if view.chooses and not reads else sorted(map(flag_of, request.given - {"seed"}))
    if request.steps is not None and reads:
        ignored.append("--steps")
    if request.shown.top != type(request.shown)().top and not view.top:
        ignored.append("--top")
    if ignored:
        have, them = ("has", "it") if len(ignored) == 1 else ("have", "them")
        where = "without a prompt" if name is None else f"with {name}{' of a file' if reads else ''}"
        raise UsageError(f"{' and '.join(ignored)} {have} no effect {where}", f"leave {them} out")


def _summary(request: Request) -> None:
    from mygpt_cli.checkpoints.runs import Run, run_of
    from mygpt_cli.inspection.history import read_history
    from mygpt_cli.inspection.summary import summarise
    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.summary import show_summary

    run = run_of(find_folder(request.folder, request.checkpoint))
    history, shown = read_history(run) if run else None, request.shown
    try:
        loaded = request.open()
        summary, shown = summarise(loaded), request.show(loaded)
    except CheckpointError as error:
        # A run has no checkpoint before its first save.
        saved = history is None or any((Path(history.folder) / name).is_dir() for name in ("last", "best"))
        if saved or not (history and (history.running or history.step)):
            raise
        if not request.quiet:
            kept = Run(Path(history.folder)).kept()
            note(f"{error.message} in last/ or best/: {error.hint}" if kept else f"{error.message} yet")
        summary = None
    show_summary(summary, history, shown)


def _steps(request: Request) -> None:
    from mygpt_cli.inspection.choices import ChoiceRecorder, can_redo
    from mygpt_cli.inspection.steps import view_steps
    from mygpt_cli.ui.steps import show_steps

    loaded, decoder, prompt = request.start()
    sampling, shown, page = request.sampling, request.show(loaded), None
    if shown.to.page and can_redo(sampling):
        page = ChoiceRecorder(sampling, loaded.config.vocab_size), loaded.tokenizer
    watch: dict[str, Any] = {"watch": page[0].record} if page else {}
    views = view_steps(decoder, loaded.tokenizer, prompt, sampling, top=shown.top, **watch)
    show_steps(views, sampling, shown, page)


def _beams(request: Request) -> None:
    from mygpt_cli.inspection.beams import view_beams
    from mygpt_cli.ui.beams import show_beams

    (loaded, decoder, prompt), sampling = request.start(), request.sampling
    with request.waiting("searching for the most probable text"):
        view = view_beams(decoder, loaded.tokenizer, prompt, sampling)
    show_beams(view, sampling, request.show(loaded))


def _temperatures(request: Request) -> None:
    from mygpt_cli.inspection.choices import ChoiceRecorder, can_redo
    from mygpt_cli.inspection.steps import view_steps
    from mygpt_cli.inspection.temperatures import view_temperatures
    from mygpt_cli.ui.pages.temperatures import temperatures_page
    from mygpt_cli.ui.temperatures import show_temperatures

    (loaded, decoder, prompt), sampling = request.start(), request.sampling
    degrees, top, page = request.temperatures, request.shown.top, None
    with request.waiting("computing the choice at each temperature"):
        view = view_temperatures(decoder, loaded.tokenizer, prompt, sampling, degrees, top=top)
        if request.shown.to.page and can_redo(sampling):
            one = replace(sampling, max_new_tokens=1)
            recorder = ChoiceRecorder(one, loaded.config.vocab_size, degrees)
            list(view_steps(decoder, loaded.tokenizer, prompt, one, watch=recorder.record))
            page = temperatures_page(view, recorder, loaded.tokenizer)
    show_temperatures(view, sampling, request.show(loaded), page)


def _life(request: Request) -> None:
    from mygpt_cli.inspection.life import view_life
    from mygpt_cli.ui.life import show_life
    from mygpt_cli.ui.pages.life import life_page

    (loaded, decoder, prompt), sampling = request.start(), request.sampling
    traces: list[Trace] = []
    with request.waiting("following the token"):
        view = view_life(
            decoder,
            loaded.tokenizer,
            prompt,
            sampling,
            position=request.position,
            layer=request.layer,
            head=request.head,
            top=request.shown.top,
            watch=traces.append,
        )
        page = life_page(view, traces[0], loaded.tokenizer) if request.shown.to.page else None
    show_life(view, sampling, request.show(loaded), page)


def _tour(request: Request) -> None:
    from mygpt_cli.inspection.tour import take_tour
    from mygpt_cli.ui.export import Shown
    from mygpt_cli.ui.tour import show_tour

    if request.given - {"seed"}:
        raise UsageError(
            "--tour shows the filters with settings of its own",
            "leave out those given, or see what they do with --steps",
        )
    if request.shown.explain or request.shown.top != Shown().top:
        raise UsageError(
            "--top and --explain have no effect with --tour", "leave them out, or use them with --life"
        )
    loaded, decoder, prompt = request.start()
    with request.waiting("preparing the tour"):
        tour = take_tour(decoder, loaded.tokenizer, prompt, request.sampling.seed)
    show_tour(tour, request.show(loaded))


def _lens(request: Request) -> None:
    from mygpt_cli.inspection.lens import best_of, view_lens
    from mygpt_cli.ui.lens import show_lens
    from mygpt_cli.ui.pages.lens import TOP, lens_page, positions_for

    loaded, traced = _traced(request)
    views, page = view_lens(traced, loaded.tokenizer), None
    if request.shown.to.page:
        best = best_of(traced, TOP, positions_for(views))
        page = lens_page(views, loaded.tokenizer, *best)
    show_lens(views, request.show(loaded), page)


def _attention(request: Request) -> None:
    from mygpt_cli.inspection.attention import maps_of, view_attention
    from mygpt_cli.ui.attention import show_attention
    from mygpt_cli.ui.pages.attention import MOST_WEIGHTS
    from mygpt_cli.ui.progress import progress_bar

    loaded, traced = _traced(request)
    with progress_bar(quiet=request.quiet) as progress:
        view = view_attention(
            traced, loaded.tokenizer, layer=request.layer, head=request.head, progress=progress
        )
    maps = maps_of(traced, view.heads, MOST_WEIGHTS) if request.shown.to.page else ()
    show_attention(view, request.show(loaded), maps)


def _traced(request: Request) -> "tuple[Checkpoint, Trace]":
    from mygpt_cli.inspection.trace import trace

    loaded, _, prompt = request.start()
    with request.waiting("reading the prompt"):
        return loaded, trace(loaded.model, prompt.ids)


def _tokens(request: Request) -> None:
    from mygpt_cli.inspection.surprisal import encode
    from mygpt_cli.inspection.tokens import cut
    from mygpt_cli.ui.pages.tokens import tokens_page
    from mygpt_cli.ui.tokens import show_tokens

    chunks = request.chunks()
    loaded = request.open()
    tokenizer, shown = loaded.tokenizer, request.show(loaded)
    found = cut(tokenizer, encode(tokenizer, chunks), top=shown.top)
    show_tokens(found, shown, tokens_page(found, tokenizer) if shown.to.page else None)


def _weights(request: Request) -> None:
    from mygpt_cli.inspection.weights import weights_of
    from mygpt_cli.ui.pages.weights import weights_page
    from mygpt_cli.ui.weights import show_weights

    if request.prompt is not None or request.file is not None:
        raise UsageError("--weights shows the tensors, not a text", "leave --prompt and --text out")
    loaded = request.open()
    tensors, shown = weights_of(loaded.model), request.show(loaded)
    show_weights(tensors, shown, weights_page(loaded.model, tensors) if shown.to.page else None)


def _surprisal(request: Request) -> None:
    from mygpt_cli.inspection.copied import find_copied, training_text
    from mygpt_cli.inspection.surprisal import as_validated, encode, surprisal
    from mygpt_cli.ui.progress import progress_bar
    from mygpt_cli.ui.surprisal import show_surprisal

    chunks = request.chunks()
    checkpoint = request.open()
    text, tokenizer = _text(chunks), checkpoint.tokenizer
    with progress_bar(quiet=request.quiet) as progress:
        view = surprisal(as_validated(checkpoint), tokenizer, encode(tokenizer, chunks), progress)
        corpus = training_text(checkpoint)
        copied: Copied | str = (
            corpus if isinstance(corpus, str) else find_copied(text, corpus.train, progress=progress)
        )
    show_surprisal(view, tokenizer, copied, text, request.show(checkpoint))


def _copied(request: Request) -> None:
    from mygpt_cli.inspection.copied import find_copied, training_text
    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.copied import show_copied
    from mygpt_cli.ui.progress import progress_bar

    if request.prompt is None and request.file is None:
        raise UsageError(
            "--copied needs a text", "give one with --text FILE, or let the model write one with --prompt"
        )
    if request.file is None:
        checkpoint, decoder, start = request.start()
        write = partial(_written, decoder, checkpoint.tokenizer, start, request)
    else:
        write = partial(_text, request.chunks())
        checkpoint = request.open()
    with request.waiting("opening the training text"):
        corpus = training_text(checkpoint)
    if isinstance(corpus, str):
        raise TextError(
            f"the training text of {checkpoint.folder} cannot be read: {corpus}",
            "put its files back to where config.toml of the run says",
        )
    text = write()
    with progress_bar(quiet=request.quiet) as progress:
        copied = find_copied(text, corpus.train, progress=progress)
    show_copied(copied, text, request.show(checkpoint), request.prompt or "")
    told = "seed" in request.given or request.sampling.greedy or request.shown.json or request.quiet
    if request.file is None and not told:
        note(f"repeat this text with --seed {request.sampling.seed}")


def _written(decoder: "Decoder", tokenizer: "Tokenizer", start: "Prompt", request: Request) -> str:
    """Let the model write, with the filters and the seed of `sample`."""
    from mygpt_cli.generation.stream import Sample, generate

    sampling = replace(request.sampling, max_new_tokens=request.steps or WRITTEN)
    with request.waiting("writing the text"):
        events = generate(decoder, tokenizer, [start], sampling)
        text = next(event.text for event in events if isinstance(event, Sample))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _compare(request: Request) -> None:
    from mygpt_cli.checkpoints.runs import Run
    from mygpt_cli.inspection.compare import Comparison, compare
    from mygpt_cli.inspection.kept import moment_of
    from mygpt_cli.inspection.surprisal import Surprisal, as_validated, encode, surprisal
    from mygpt_cli.ui.compare import show_compare
    from mygpt_cli.ui.kept import show_kept
    from mygpt_cli.ui.progress import progress_bar

    chunks, first = request.chunks(), request.open()
    kept = Run(run_or_path(request.other or "")).kept()
    others = (request.open(name) for name in (map(str, kept) if kept else [request.other]))

    def read(side: "Checkpoint") -> Surprisal | None:
        ids = encode(side.tokenizer, chunks)
        if len(ids) < 2 and request.file is None:
            return None
        with progress_bar(quiet=request.quiet) as progress:
            return surprisal(as_validated(side), side.tokenizer, ids, progress)

    def beside(other: "Checkpoint") -> Comparison:
        theirs = text if other is first else read(other)
        texts = (text, theirs) if text and theirs else None
        with request.waiting("comparing the checkpoints"):
            return compare(first, other, prompt=prompt, texts=texts, top=1 if kept else request.shown.top)

    first.tokenizer.check_prompt(request.prompt or "")
    text = read(first)
    prompt = () if request.prompt is None else tuple(encode(first.tokenizer, chunks).tolist())
    views = [beside(other) for other in others]
    if kept:
        show_kept([*map(moment_of, views), moment_of(beside(first))], request.show(first))
    else:
        show_compare(views[0], first.tokenizer, request.show(first))


def _text(chunks: "list[Chunk]") -> str:
    return "".join(chunk.text for chunk in chunks)


VIEWS: dict[str | None, View] = {
    None: View(_summary),
    "--steps": View(_steps, "the choices after", chooses=True, top=True),
    "--beams": View(_beams, "the search for a text after", chooses=True, top=True),
    "--temperatures": View(_temperatures, "the choice after", chooses=True, top=True),
    "--life": View(_life, "the life of a token of", chooses=True, top=True),
    "--tour": View(_tour, "the twelve stages of", chooses=True, top=True),  # which refuses them itself
    "--lens": View(_lens, "what each layer would say after"),
    "--attention": View(_attention, "what heads look at in"),
    "--tokens": View(_tokens, top=True),
    "--text": View(_surprisal, top=True),
    "--copied": View(_copied, chooses=True),
    "--compare": View(_compare, top=True),
    "--weights": View(_weights),
}
