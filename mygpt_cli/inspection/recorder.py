"""What the modules of a model compute in its own forward pass, by torch's forward hooks.

So a view never computes anything in the model's stead, and shows a part that is new to it as well.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


class Call(NamedTuple):
    """The tensors that a module was given, and the one that it returned."""

    inputs: tuple[Tensor, ...]
    output: Tensor


@contextlib.contextmanager
def recorded(module: nn.Module, wanted: Callable[[str], bool] = bool) -> Iterator[dict[str, Call]]:
    """Record the last call of each `wanted` part of a module, by its name, in the order in which they end."""
    calls: dict[str, Call] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[object, ...], Tensor], None]:
        def hook(part: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
            calls[name] = Call(tuple(each for each in inputs if isinstance(each, Tensor)), output)

        return hook

    handles = [
        part.register_forward_hook(keep(name)) for name, part in module.named_modules() if wanted(name)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def changed(module: nn.Module, change: Change) -> Iterator[None]:
    """Let a module return what `change` makes of its output."""
    handle = module.register_forward_hook(lambda part, inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()
