"""What there is to know of an architecture by its name."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.tokens.patterns import SPLIT_PATTERN

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Slot:
    """One tensor of a checkpoint, and where it lives in `GPT`.

    `rows` selects a part of our tensor; `transposed` says that the file keeps it as (in, out). `ours` is
    empty for a bias that the file needs and the model does not have: the file holds zeros.
    """

    name: str
    ours: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    transposed: bool = False


class Architecture(ABC):
    """A name for parts of a model, its limits, and its names in Hugging Face's files.

    `parts` are those of ModelConfig, beside its shape; `options` are the settings of training that choose
    among them. `muon_lr` is the learning rate of Muon that suits it where a text is seen seldom, and `rates`
    are those of some parameters beside Muon, as multiples of AdamW's.
    `splitting` is the pattern that splits a text before byte pairs are learned from it. `gguf` is llama.cpp's
    name for models of this kind, empty where it has none; where its rotation is `interleaved` it rotates the
    channels 2d and 2d + 1 of a head together, and we rotate d and d + D/2.
    """

    name: ClassVar[str]
    parts: ClassVar[Mapping[str, Any]]
    options: ClassVar[tuple[str, ...]] = ()
    muon_lr: ClassVar[float] = 0.02
    rates: ClassVar[Mapping[str, float]] = {}
    embedding: ClassVar[str]  # the name of its tensor
    prefix: ClassVar[str] = ""  # of tensors, which files from elsewhere may lack
    buffers: ClassVar[tuple[str, ...]] = ()  # ends of names of what old files carry, and is no weight
    trainable: ClassVar[bool] = True  # from a text alone, which some are only opened for
    windowed: ClassVar[bool] = False  # new models attend no further back than they were trained to
    splitting: ClassVar[str] = SPLIT_PATTERN
    gguf: ClassVar[str] = ""
    interleaved: ClassVar[bool] = False

    def faults(self, config: ModelConfig) -> list[str]:
        """Say which parts this architecture does not take; by default all that ModelConfig does."""
        return []

    def mlp_width(self, width: int) -> int:
        """Return how wide the feed-forward part is where nothing says so."""
        return 4 * width

    def gguf_faults(self, config: ModelConfig) -> list[str]:
        """Say what llama.cpp does not have of a model, where it has the architecture."""
        return []

    @abstractmethod
    def slots(self, config: ModelConfig) -> Iterator[Slot]:
        """List the tensors of a checkpoint of this shape, without allocating any."""

    @abstractmethod
    def to_config(self, config: ModelConfig) -> dict[str, Any]:
        """Return what `config.json` says of the model beside what all have."""

    @abstractmethod
    def from_config(self, read: "Reader") -> dict[str, Any]:
        """Return the parts and the shape that a `config.json` tells."""

    @abstractmethod
    def initialise(self, name: str, parameter: "Tensor", config: ModelConfig, rng: "torch.Generator") -> None:
        """Draw a matrix's first weights; biases are 0 and gains 1 in every architecture."""


def draw_around_identity(name: str, parameter: "Tensor", config: ModelConfig, rng: "torch.Generator") -> None:
    """Draw unit embeddings, logits near 0, and uniform matrices of variance 1 / C, as nanochat does.

    Where a block writes to the residual stream there are zeros, so that it begins as identity.
    """
    bound = math.sqrt(3.0 / config.width)
    if name.endswith(("out.weight", "down.weight")):
        parameter.zero_()
    elif name == "head.weight":
        parameter.normal_(0.0, 0.001, generator=rng)
    elif name == "embedding":
        parameter.normal_(0.0, 1.0, generator=rng)
    else:
        parameter.uniform_(-bound, bound, generator=rng)


class Reader:
    """Reads typed values of a `config.json`, and collects what mygpt does not have.

    Raises CheckpointError for a value of another type.
    """

    def __init__(self, raw: Mapping[str, Any], faults: list[str] | None = None) -> None:
        self.raw = raw
        self.faults = [] if faults is None else faults

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a positive whole number."""
        value = self.raw.get(name, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise CheckpointError(f"config.json: {name} must be a positive whole number, {_not(value)}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a finite number."""
        value = self.raw.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not -1e300 < value < 1e300:
            raise CheckpointError(f"config.json: {name} must be a number, {_not(value)}")
        return float(value)

    def truth(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self.raw.get(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"config.json: {name} must be true or false, {_not(value)}")
        return value

    def word(self, name: str, default: str) -> str:
        """Return a text."""
        value = self.raw.get(name, default)
        if not isinstance(value, str):
            raise CheckpointError(f"config.json: {name} must be a text, {_not(value)}")
        return value

    def part(self, name: str) -> "Reader":
        """Return a reader of an object in it, of an empty one where there is none."""
        value = self.raw.get(name) or {}
        if not isinstance(value, dict):
            raise CheckpointError(f"config.json: {name} must be an object, {_not(value)}")
        return Reader(value, self.faults)

    def for_layers(self, name: str, layers: int, kinds: tuple[Any, ...]) -> list[Any] | None:
        """Return which of these kinds a list has for each layer, or None where there is no list."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < layers:
            raise CheckpointError(f"config.json: {name} must be a list with an entry for each layer")
        if unknown := [one for one in value[:layers] if one not in kinds or type(one) is not type(kinds[0])]:
            self.faults.append(f"{unknown[0]!r:.100} in {name} is not supported")
        return value[:layers]

    def only(self, name: str, allowed: Any) -> None:
        """Note a fault unless the value is absent or the only one that mygpt has."""
        if self.raw.get(name, allowed) != allowed:
            self.faults.append(f"{name} = {self.raw[name]!r:.100} is not supported")


def _not(value: object) -> str:
    return "and there is none" if value is None else f"not {value!r:.100}"
