"""How sure a model should be of what it predicts, from how often it has seen its text."""

import math

# See "How sure a model is" in benchmarks/RESULTS.md.
PER_DOUBLING = 0.02  # what each doubling of the passes adds to the temperature
MOST_PASSES = 32.0  # beyond which it does not grow; up to 21 were measured


def temperature(passes: float) -> float:
    """Return by what to divide the logits of a model that has seen its text so often, at least 1.

    The more often, the surer a model is of what it has read, and the more it is too sure of new text (Guo et
    al., 2017, arXiv:1706.04599, who fit the temperature to a validation text). Here it follows from the
    passes alone, so that the validation text stays new.
    """
    return 1.0 + PER_DOUBLING * math.log2(min(max(passes, 1.0), MOST_PASSES))
