"""How large a model: what each shape costs, how many tokens it has to see, and which one is chosen."""

from collections.abc import Callable

from mygpt_cli.config.settings import Settings
from mygpt_cli.tokens.dataset import Dataset

# What follows was measured with `benchmarks/sizing.py` and `benchmarks/ablations.py`.
SHAPES = (  # layers, width
    *((2, 64), (3, 96), (4, 128), (4, 160), (4, 192), (5, 224)),
    *((6, 256), (6, 320), (6, 384), (8, 512), (12, 768)),
)
# The time per token grows with (width + EXTRA_WIDTH) * (layers * width + vocabulary / TOKENS_PER_CHANNEL).
EXTRA_WIDTH, TOKENS_PER_CHANNEL = 100, 21
PARAMETERS_PER_BYTE = 5.0  # of the text: larger models are no better,
MOST_PARAMETERS_PER_BYTE = 10.0  # unless there is time for all the passes that several of them can use
FEWEST_PARAMETERS = 400_000  # which any text may have
# A model, or several together, has to see so many tokens per parameter of its blocks and its embedding.
FEWEST_TOKENS_PER_PARAMETER = 1.35
# In a given time a smaller model sees more tokens. A larger one pays off only with so many tokens per
# parameter of its blocks, or after so many passes over the text, when the smaller one gains little from more.
TOKENS_PER_PARAMETER, PASSES = 6.0, 3.5
MOST_EMBEDDED = 8192  # tokens whose embedding counts: rarer ones hardly ever learn
HEAD_WIDTH = 64
SMALLER = 0.4  # times the parameters of a single model: what each of several may have instead


def cost(vocabulary: int, layers: int, width: int) -> float:
    """Estimate the time per token of a shape, in units that cancel out between shapes."""
    return (width + EXTRA_WIDTH) * (layers * width + vocabulary / TOKENS_PER_CHANNEL)


def parameters(layers: int, width: int) -> int:
    """Return about how many parameters the blocks of a shape have."""
    return 12 * layers * width**2


def tokens_to_learn(layers: int, width: int, dataset: Dataset, *, timed: bool) -> float:
    """Return how many tokens a model of this shape has to see, or several of them together.

    More when the budget is time, in which a smaller model would see more tokens.
    """
    blocks, embedding = parameters(layers, width), min(dataset.tokenizer.vocab_size, MOST_EMBEDDED) * width
    fewest = FEWEST_TOKENS_PER_PARAMETER * (blocks + embedding)
    return max(fewest, min(TOKENS_PER_PARAMETER * blocks, PASSES * len(dataset.train))) if timed else fewest


def choose_shape(
    chosen: Settings,
    fits_text: Callable[[int, int], bool],
    is_trained: Callable[[int, int], bool],
    members: Callable[[int, int], int],
    budget: str,
) -> tuple[int, int, str]:
    """Return the largest shape, of those that agree with the settings, that budget and text suffice for.

    Where there is time for only one such model, and for several that are not much smaller, it is theirs. Also
    returns what bounds it, in words.
    """
    shapes = [(chosen.get("layers", layers), chosen.get("width", width)) for layers, width in SHAPES]
    enough = [shape for shape in shapes if fits_text(*shape) and is_trained(*shape)]
    if not enough and not fits_text(*shapes[0]):
        return *shapes[0], "a larger model would be no better for this text"
    if not enough:
        return *shapes[0], f"the smallest, because {budget} is short"
    best = enough[-1]
    several = [s for s in enough if parameters(*s) >= SMALLER * parameters(*best) and members(*s) > 1]
    if several and several[-1] != best:
        return *several[-1], f"the largest of which {budget} can train several models"
    larger = next((shape for shape in shapes if parameters(*shape) > parameters(*best)), None)
    if larger is None:
        reason = "the largest that is chosen automatically"
    elif not fits_text(*larger):
        reason = "a larger model would be no better for this text"
    else:
        reason = f"the largest model that {budget} can train well"
    return *best, reason


def with_shape(chosen: Settings, layers: int, width: int) -> Settings:
    """Return the settings with this shape where they leave it open, and heads that divide its width."""
    width = chosen.get("width", _near_width(chosen.get("heads"), width))
    return {"layers": layers, "heads": _near_heads(width)} | chosen | {"width": width}


def _near_width(heads: int | None, width: int) -> int:
    return width if heads is None else max(1, round(width / (2 * heads))) * 2 * heads


def _near_heads(width: int) -> int:
    """Return the number of heads whose even width is nearest to HEAD_WIDTH; 1 when none is even.

    Two at least, for an induction head beside others, unless they would be narrower than half of that.
    """
    divisors = [heads for heads in range(1, width + 1) if width % (2 * heads) == 0]
    several = [heads for heads in divisors if heads > 1 and width >= heads * HEAD_WIDTH / 2]
    return min(several or divisors or [1], key=lambda heads: abs(width // heads - HEAD_WIDTH))
