"""How surprised a model is by a text: the loss and the rank of every token, by the trainer's own rule."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mygpt_cli.base.errors import MygptError, ResourceError, TextError, UsageError, is_out_of_memory
from mygpt_cli.base.progress import OnProgress
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.metrics import RUN_CONFIG
from mygpt_cli.checkpoints.runs import run_of
from mygpt_cli.config.sources import from_file
from mygpt_cli.generation.decoding import unsound_part
from mygpt_cli.model.gpt import GPT, rows_at_once
from mygpt_cli.text.corpus import Chunk
from mygpt_cli.tokens.dataset import val_windows
from mygpt_cli.tokens.token_files import texts
from mygpt_cli.tokens.tokenizer import Tokenizer, UnknownCharacterError

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Surprisal:
    """What a model makes of a text of n tokens; arrays of n - 1, as nothing precedes the first token.

    `nats` are the losses. `ranks` are one more than the number of tokens that were more probable. `best` are
    the ids of the tokens that were the most probable in each place, `best_nats` the losses these would have
    had. `bytes` are those of the predicted tokens.
    """

    ids: np.ndarray
    nats: np.ndarray
    ranks: np.ndarray
    best: np.ndarray
    best_nats: np.ndarray
    bytes: int

    @property
    def nats_per_token(self) -> float:
        """The mean loss."""
        return float(self.nats.sum(dtype=np.float64)) / len(self.nats)

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens among which guessing would be as hard."""
        return math.exp(min(self.nats_per_token, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """The measure that compares across tokenizers."""
        return float(self.nats.sum(dtype=np.float64)) / math.log(2) / max(1, self.bytes)

    @property
    def bits(self) -> np.ndarray:
        """The surprisal of each predicted token in bits."""
        return self.nats / np.float32(math.log(2))

    def worst(self, count: int) -> list[int]:
        """Return the places in `ids` of the most surprising tokens, the worst first."""
        order = np.argsort(-self.nats, kind="stable")[:count]
        return [int(place) + 1 for place in order]


def as_validated(checkpoint: Checkpoint) -> GPT:
    """Return the model, set to compute in the type in which its run has validated it; 32 bits elsewhere."""
    run = run_of(checkpoint.folder)
    if checkpoint.state is not None and run is not None:
        with contextlib.suppress(UsageError):
            checkpoint.model.compute_dtype = TYPES.get(
                str(from_file(run / RUN_CONFIG).get("dtype")), torch.float32
            )
    return checkpoint.model


def encode(tokenizer: Tokenizer, chunks: Iterable[Chunk]) -> np.ndarray:
    """Return the ids of a text, cut into pieces as training cuts it, after the tokenizer's prefix.

    Raises TextError for a character that the tokenizer does not know.
    """
    found, place = [np.array(tokenizer.prefix, np.uint32)], 0
    for chunk in texts(chunks, tokenizer=tokenizer):
        try:
            found.append(tokenizer.encode_array(chunk.text, begins=not place))
        except UnknownCharacterError as fault:
            raise UnknownCharacterError(fault.character, fault.place + place, fault.known) from None
        place += len(chunk.text)
    return np.concatenate(found)


def surprisal(
    model: GPT, tokenizer: Tokenizer, ids: np.ndarray, progress: OnProgress = lambda stage, fraction: None
) -> Surprisal:
    """Predict every token but the first in the windows of validation, up to a context each.

    Raises TextError for fewer than two tokens, ResourceError when memory runs out.
    """
    if len(ids) < 2:
        raise TextError(
            "one token cannot surprise: it takes two to predict one" if len(ids) else "the text is empty",
            "give a longer text",
        )
    rows = rows_at_once(model.config.vocab_size)
    count, done = len(ids) - 1, 0
    progress("reading the text", 0.0)
    # Made at once: small results among the large tensors would keep their memory from being used again.
    nats, best_nats = np.empty(count, np.float32), np.empty(count, np.float32)
    ranks, best = np.empty(count, np.int32), np.empty(count, np.int32)
    for part in _predict(model, ids, rows):
        here = slice(done, done + len(part[0]))
        nats[here], ranks[here], best[here], best_nats[here] = part
        done = here.stop
        progress("reading the text", done / count)
    start = len(tokenizer.prefix)  # which is no text
    size = len(tokenizer.text_bytes(ids[start:].tolist()))
    size -= 0 if start else len(tokenizer.token_bytes(int(ids[0])))
    return Surprisal(ids, nats, ranks, best, best_nats, size)


def _predict(model: GPT, ids: np.ndarray, rows: int) -> Iterator[tuple[np.ndarray, ...]]:
    device, context = model.embedding.device, model.config.context
    for x, y in val_windows(ids, context, max(1, rows // context)):
        inputs = torch.from_numpy(x).to(device)
        try:
            measured = _measure(model, inputs, torch.from_numpy(y).to(device), rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            hint = "use a smaller model" if device.type == "cpu" else "--device cpu may have more"
            raise ResourceError("memory ran out while reading the text", hint) from None
        if not np.isfinite(measured[0]).all():
            raise MygptError(
                f"the model's losses are not finite numbers: they go wrong in {unsound_part(model, inputs)}",
                "the checkpoint's weights are damaged, or its training diverged: take an earlier one",
            )
        yield measured


@torch.no_grad()
def _measure(model: GPT, x: Tensor, y: Tensor, rows: int) -> tuple[np.ndarray, ...]:
    """Return loss, rank, best token and its loss for every target (B, T), each flat (B * T).

    No more than so many rows of logits are made at once: a long context may have more than fit.
    """
    hidden = model.hidden(x).flatten(0, 1)  # (B * T, C)
    found = []
    for part, targets in zip(torch.split(hidden, rows), torch.split(y.flatten(), rows), strict=True):
        logprobs = model.unembed(part).log_softmax(dim=-1)  # (rows, V)
        own = logprobs.gather(-1, targets[:, None])
        before = (logprobs > own).sum(dim=-1)
        best = logprobs.max(dim=-1)
        found.append((-own[:, 0], before + 1, best.indices, -best.values))
    return tuple(torch.cat(columns).cpu().numpy() for columns in zip(*found, strict=True))
