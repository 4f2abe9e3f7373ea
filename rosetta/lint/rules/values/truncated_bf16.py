"""V409: BF16 values that were cut off rather than rounded."""

from collections.abc import Iterator
from math import sqrt

import numpy as np

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.rules.values.float_mixed_up import is_f16
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V409",
    "bf16-truncated",
    "warning",
    what="A BF16 matrix was made by cutting bits off rather than by rounding.",
    why="A converter took the upper half of each float32. Every weight is then too small by a quarter of a percent on "
    "average, all in the same direction, which rounding's errors are not.",
    fix="Round to nearest even, as torch and gguf-py do.",
)
# The number at the start of an octave stands for three quarters of the width of its neighbour's where values are
# rounded (half a step above it, a quarter below, where steps are half as wide), and for all of it where they are cut.
ROUNDED, CUT = 0.75, 1.0
# Standard errors by which the share must lie away from rounding's, and within which of cutting's.
ERRORS = 6.0


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """A matrix whose octaves begin as those of cut values do."""
    if seen.dtype != "BF16" or seen.patterns is None or not seen.is_matrix or is_f16(seen.patterns):
        return
    by_mantissa = np.bincount(np.arange(len(seen.patterns)) & 127, weights=seen.patterns, minlength=128)
    by_mantissa[0] -= seen.zeros
    first, following = float(by_mantissa[0]), float(by_mantissa[1:5].mean())
    if following < 100:
        return
    share = first / following
    error = share * sqrt(1 / max(first, 1.0) + 1 / (4 * following))
    if share - ROUNDED > ERRORS * error and abs(share - CUT) < ERRORS * error and share > (ROUNDED + CUT) / 2:
        yield seen.subject.at_tensor(
            seen.tensor,
            f"powers of two are {share:.2f} times as frequent as the numbers after them; rounding makes {ROUNDED:g}, "
            f"cutting {CUT:g}",
        )
