"""The views of texts and of weights, to the screen and to files, or as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mygpt_cli.ui.compare import render_compare
from mygpt_cli.ui.copied import render_copied
from mygpt_cli.ui.export import Export, Screen
from mygpt_cli.ui.surprisal import render_surprisal
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.tokens import render_tokens
from mygpt_cli.ui.weights import render_weights

if TYPE_CHECKING:
    from mygpt_cli.inspection.compare import Comparison
    from mygpt_cli.inspection.copied import Copied
    from mygpt_cli.inspection.surprisal import Surprisal
    from mygpt_cli.inspection.tokens import Cut
    from mygpt_cli.inspection.weights import Weights
    from mygpt_cli.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Shown:
    """How a view is shown: so many of the best or worst, with sentences or without, and where to."""

    top: int = 5
    explain: bool = False
    json: bool = False
    to: Export | None = None

    def screen(self, title: str) -> Screen:
        """Return the screen."""
        return Screen(title, json=self.json, to=self.to)


def show_tokens(cut: "Cut", how: Shown) -> None:
    """Write how a text is cut into tokens."""
    with how.screen("tokens") as screen:
        record = dataclasses.asdict(cut)
        del record["ids"]
        record["bytes"], record["tokens_per_character"] = cut.bytes, cut.tokens_per_character
        pairs = zip(cut.ids, cut.tokens, strict=True)
        record["tokens"] = [{"id": token} | _token(data) for token, data in pairs]
        for name in ("longest", "frequent"):
            record[name] = [entry | _token(entry.pop("token")) for entry in record[name]]
        screen.record(record)
        screen.show(*render_tokens(cut, screen.width, explain=how.explain))


def show_surprisal(
    view: "Surprisal", tokenizer: "Tokenizer", copied: "Copied | str", text: str, how: Shown
) -> None:
    """Write how surprised a model is by a text, and what of it was copied, or why that is not known."""
    with how.screen("surprisal") as screen:
        found = None if isinstance(copied, str) else copied_record(copied, text)
        screen.record(surprisal_record(view) | {"copied": found})
        screen.show(
            *render_surprisal(view, tokenizer, screen.width, top=how.top, explain=how.explain), Text()
        )
        if isinstance(copied, str):
            words = f"What of it was copied is not known: no training text is at hand ({one_line(copied)})."
            screen.show(Text(words, style="dim"))
        else:
            screen.show(*render_copied(copied, text, screen.width, explain=how.explain))


def show_copied(copied: "Copied", text: str, how: Shown) -> None:
    """Write which passages of a text were copied."""
    with how.screen("copied passages") as screen:
        screen.record({"text": text} | copied_record(copied, text))
        screen.show(*render_copied(copied, text, screen.width, running=True, explain=how.explain))


def show_compare(view: "Comparison", tokenizer: "Tokenizer", how: Shown) -> None:
    """Write how two checkpoints differ."""
    with how.screen("two checkpoints") as screen:
        changes = None if view.changes is None else view.changes.tolist()
        screen.record(
            {
                "sides": [dataclasses.asdict(side) for side in view.sides],
                "same_tokens": view.same_tokens,
                "texts": [surprisal_record(text) for text in view.texts or ()],
                "changes": changes,
                "next": [
                    dataclasses.asdict(shift) | _token(shift.token, "token") | {"change": shift.change}
                    for shift in view.next
                ],
                "divergence": view.divergence,
                "tensors": [dataclasses.asdict(tensor) | {"share": tensor.share} for tensor in view.tensors],
                "unlike": view.unlike,
            }
        )
        screen.show(*render_compare(view, tokenizer, screen.width, top=how.top, explain=how.explain))


def show_weights(tensors: "Sequence[Weights]", how: Shown) -> None:
    """Write the tensors of a model, each as a line of JSON."""
    with how.screen("weights") as screen:
        for tensor in tensors:
            screen.record(dataclasses.asdict(tensor))
        screen.show(*render_weights(tensors, screen.width, explain=how.explain))


def surprisal_record(view: "Surprisal") -> dict[str, Any]:
    """Return a text's losses for JSON; `nats`, `ranks` and `best` are null for the first token."""
    numbers = {name: [None, *getattr(view, name).tolist()] for name in ("nats", "ranks", "best", "best_nats")}
    return {
        "tokens": len(view.ids),
        "bytes": view.bytes,
        "bits_per_byte": view.bits_per_byte,
        "nats_per_token": view.nats_per_token,
        "perplexity": view.perplexity,
        "ids": view.ids.tolist(),
        **numbers,
    }


def copied_record(copied: "Copied", text: str) -> dict[str, Any]:
    """Return what was copied for JSON, each passage with its text."""
    record = dataclasses.asdict(copied) | {"share": copied.share}
    for passage in record["passages"]:
        passage["text"] = text[passage["start"] : passage["stop"]]
    return record


def _token(data: bytes, name: str = "text") -> dict[str, str]:
    return {name: data.decode("utf-8", "replace"), "bytes": data.hex()}
