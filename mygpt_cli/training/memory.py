"""Whether a model can be trained in the memory there is: its batches in smaller parts, or a refusal."""

import bisect
from dataclasses import replace

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.config.train import TrainConfig

OPENED = 4.0  # bytes of each weight as it was opened
TRAINED = 18.0  # of each, its gradient, two moments, and a copy in the type of matrix products


def fit_memory(
    config: TrainConfig,
    vocab_size: int,
    memory: int,
    processes: int = 1,
    start: int = 0,
    kept: float = 0.0,
    *,
    resumed: bool = False,
) -> TrainConfig:
    """Return the configuration with its batches in parts that this many bytes suffice for.

    Of several `processes`, each takes its part of a step's sequences. A model that is fine-tuned has as many
    weights as `start`; it is `kept` as it was opened, in so many bytes of the same memory.
    Raises ResourceError when they do not suffice for a single sequence; it names the largest number of
    layers, and the largest width, that leave a fifth of them free, and a single model where that fits. A
    `resumed` run has its shape already.
    """

    def needs(config: TrainConfig, layers: int, width: int) -> float:
        parameters = start or _parameters(layers, width, vocab_size)
        return _bytes_needed(config, layers, width, vocab_size, processes, parameters) + kept

    while (needed := needs(config, config.layers, config.width)) > memory:
        if config.batch_size == 1:
            break
        config = config.in_smaller_parts()
    else:
        return config

    def too_large(layers: int, width: int) -> bool:
        return needs(config, layers, width) > 0.8 * memory

    unit = 2 * config.heads
    layers = bisect.bisect_left(range(1, config.layers), True, key=lambda n: too_large(n, config.width))
    width = unit * bisect.bisect_left(
        range(unit, config.width, unit), True, key=lambda n: too_large(config.layers, n)
    )
    fitting = [f"--{name} {value}" for name, value in (("layers", layers), ("width", width)) if value]
    if config.init_from or resumed:
        fitting = []
    elif config.members > 1 and needs(replace(config, members=1), config.layers, config.width) <= memory:
        fitting.insert(0, "--members 1")
    if processes > 1 and config.members == 1 and not config.shard:
        sharded = replace(config, shard=True, compile="off")
        if needs(sharded, config.layers, config.width) <= memory:
            fitting.append("--shard")
    if fitting:
        hint = f"{' or '.join(fitting)} would fit"
    elif resumed:
        hint = "resume it on a machine with more memory"
    elif start and needs(replace(config, context=2), config.layers, config.width) > memory:
        hint = _smaller_start(memory)
    else:
        hint = "a smaller --context needs less"
    raise ResourceError(
        f"training this model takes about {needed / 1e9:.0f} GB of memory; there are {memory / 1e9:.0f} GB",
        hint,
    )


def check_start(weights: int, free: int) -> None:
    """Raise ResourceError for a model whose weights are too many to fine-tune in the bytes that are free.

    So it is known before any memory is taken for them.
    """
    if (needed := (OPENED + TRAINED) * weights) > free:
        raise ResourceError(
            f"fine-tuning this model takes at least {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB"
            " are free",
            _smaller_start(free),
        )


def _smaller_start(memory: int) -> str:
    most = memory / (OPENED + TRAINED) / 1e6
    return f"a model of at most {most:,.0f} million weights would fit"


def _bytes_needed(
    config: TrainConfig, layers: int, width: int, vocab_size: int, processes: int, parameters: int
) -> float:
    """Estimate the memory of training: weights, gradients, two moments, and what the backward pass keeps.

    Several processes send each other gradients and weights from copies. The average is one more copy, each
    member another; several are validated as one model, which is as many times as wide. Of a sharded model,
    each process has its part of all that, and what is in no layer and two layers whole, with gradients.
    """
    size = 2 if config.dtype == "bfloat16" else 4
    sequences = min(config.batch_size, -(-config.batch_size * config.accumulation // processes))
    tokens, members = sequences * config.context, config.members

    def kept(times: int) -> float:
        of_layer = 26 * width * times + 3 * config.heads * times * config.context
        return float(size * tokens * (layers * of_layer + 3 * vocab_size))

    copies = members + bool(config.average) - 1
    each = TRAINED + (0.0 if processes == 1 else 8.0) + 4.0 * copies
    if config.shard:
        return each * parameters / processes + 16.0 * _parameters(2, width, vocab_size) + kept(1)
    together = 4.0 * _parameters(layers, width * members, vocab_size) + kept(members) if members > 1 else 0.0
    return each * parameters + max(kept(1), together)


def _parameters(layers: int, width: int, vocab_size: int) -> int:
    return 12 * layers * width**2 + 2 * vocab_size * width
