"""V406: values whose bytes stand in the other order."""

from collections.abc import Iterator

import numpy as np

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import Counts, SeenTensor

RULE = Rule(
    "V406",
    "byte-order",
    "error",
    what="The bytes of a tensor's values stand in the other order.",
    why="A file was written on, or for, a machine of the other byte order, and the header does not say so.",
    fix="Turn the bytes of each value round, or convert the model again on this machine.",
)
ENOUGH = 512  # values
# The exponents of weights spread over few powers of two: by 1.3 to 2.5 (standard deviation) in trained and random
# matrices. What stands in their place when the bytes are turned are mantissas, which spread over all there are.
NARROW, WIDE = 3.5, 4.5


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """A tensor whose exponents are spread as mantissas are, and narrow when turned round."""
    if seen.patterns is None or seen.swapped is None or seen.count < ENOUGH:
        return
    if _spread(seen.patterns, seen.dtype) > WIDE and _spread(seen.swapped, seen.dtype) < NARROW:
        yield seen.subject.at_tensor(
            seen.tensor, "its exponents are spread as mantissas are: the bytes are turned round"
        )


def _spread(patterns: Counts, dtype: str) -> float:
    """Standard deviation of the exponents of values other than 0, in powers of two; 0 where there are none."""
    shift, bits = {"F16": (10, 5), "F64": (4, 11)}.get(dtype, (7, 8))
    index = np.arange(len(patterns))
    weights = np.where((index & 0x7FFF) == 0, 0, patterns)
    exponents = np.bincount((index >> shift) & ((1 << bits) - 1), weights=weights, minlength=1 << bits)
    total = exponents.sum()
    if not total:
        return 0.0
    powers = np.arange(len(exponents))
    mean = float(exponents @ powers) / total
    return float(np.sqrt(float(exponents @ np.square(powers - mean)) / total))
