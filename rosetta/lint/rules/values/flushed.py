"""V408: the smallest values of an F16 tensor were flushed to zero."""

from collections.abc import Iterator

import numpy as np

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V408",
    "subnormals-flushed",
    "warning",
    what="An F16 matrix has no value below F16's smallest normal number, where it must have many.",
    why="The converter, or the processor in a mode that does so, flushed subnormal numbers to zero.",
    fix="Convert again without flush-to-zero (torch.set_flush_denormal, -ffast-math).",
)
# Around zero the values of a weight matrix are evenly dense: as many lie below 2⁻¹⁴ as in the octave above it.
_FEWEST = 64  # expected ones, of which none at all is no chance
_MOST_ZEROS = 0.05  # of a matrix that was quantised before, or pruned, zeros say nothing


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """A matrix with a gap below 2⁻¹⁴ and none above."""
    if seen.dtype != "F16" or seen.patterns is None or not seen.is_matrix:
        return
    exponent = (np.arange(len(seen.patterns)) >> 10) & 31
    lowest = seen.patterns[exponent == 1]
    below = int(seen.patterns[exponent == 0].sum()) - seen.zeros
    expected = int(lowest.sum())
    # of a matrix with few different values near zero the octave may be filled by one step of a quantiser
    if (
        expected < _FEWEST
        or below
        or np.count_nonzero(lowest) < _FEWEST // 2
        or seen.zeros > _MOST_ZEROS * seen.count
    ):
        return
    yield seen.subject.at_tensor(
        seen.tensor,
        f"no value lies below 2⁻¹⁴, {expected:,} lie in the octave above, and {seen.zeros:,} are zero",
    )
