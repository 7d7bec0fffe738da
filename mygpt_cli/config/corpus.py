"""The text that settings name."""

from mygpt_cli.config.settings import Settings
from mygpt_cli.text.corpus import Corpus, open_corpus


def corpus_of(settings: Settings) -> Corpus:
    """Open the text as the settings say; raises what `open_corpus` raises."""
    return open_corpus(
        settings.get("files", ()),
        errors=settings.get("errors", "strict"),
        encoding=settings.get("encoding", "utf-8"),
        val_fraction=settings.get("val_fraction"),
        val_file=settings.get("val_file"),
    )
