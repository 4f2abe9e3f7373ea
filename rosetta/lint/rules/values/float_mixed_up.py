"""V405: bytes of BF16 under the name of F16, or the reverse."""

from collections.abc import Iterator

import numpy as np

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import PATTERNS, Counts, SeenTensor, moments_of, values_of_patterns

RULE = Rule(
    "V405",
    "float-mixed-up",
    "error",
    what="The exponents of a 16-bit matrix betray that its bytes are BF16 and it is declared F16, or the reverse.",
    why="Both take two bytes, and nothing but the label tells them apart: a writer copied the bytes and wrote the "
    "other label.",
    fix="Declare the dtype that the bytes are of.",
)
ENOUGH = 4096  # values, below which the shares of single mantissas say too little
# Within one octave the leading three bits of a mantissa are about evenly spread: on 210 matrices of SmolLM2 and on
# normal numbers the commonest of eight is at most 1.9 times as frequent as the rarest. Read as F16, those bits are the
# end of a BF16's exponent, of which each is twice as frequent as the one below: a hundred times over eight.
EVEN = 12.0
PLAUSIBLE_STD = (1e-5, 10.0)  # of a weight matrix
# Around zero values are evenly dense, so that few are 2¹² times smaller than the most are: a share of 2⁻¹² of them. An
# octave of F16 read as BF16 is spread over eight, and a tenth and more of the values lie so far down.
FAR_DOWN, MOST_FAR_DOWN = 12, 0.02  # octaves, share
ABSURD_STD = 1e-9  # F16 bytes of small weights, read as BF16, are numbers like 1e-18


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """A matrix that reads well as the other type, and badly as its own."""
    if seen.patterns is None or not seen.is_matrix or seen.nonfinite or seen.count < ENOUGH:
        return
    if seen.dtype == "F16" and _unevenness(seen.patterns) > EVEN and _reads_well(seen.patterns, "BF16"):
        yield seen.subject.at_tensor(seen.tensor, "is declared F16, and its exponents are those of BF16")
    if seen.dtype == "BF16" and is_f16(seen.patterns):
        yield seen.subject.at_tensor(seen.tensor, "is declared BF16, and its exponents are those of F16")


def is_f16(patterns: Counts) -> bool:
    """Whether the bytes of what is declared BF16 are those of F16."""
    octaves = np.bincount((np.arange(PATTERNS) >> 7) & 255, weights=patterns, minlength=256)
    octaves[0] = 0.0  # zeros
    below = octaves[: max(int(octaves.argmax()) - FAR_DOWN, 0)].sum()
    spread = below > MOST_FAR_DOWN * octaves.sum() and 0 < _unevenness(patterns) <= EVEN
    absurd = moments_of(patterns, values_of_patterns("BF16"))
    return (spread or (absurd is not None and 0 < absurd[1] < ABSURD_STD)) and _reads_well(patterns, "F16")


def _unevenness(patterns: Counts) -> float:
    """How many times as frequent the commonest leading three bits of F16's mantissa are as the rarest, within that of
    the two commonest octaves where they are more even: the largest values of an initialisation end within an octave."""
    leading = patterns.reshape(2, 32, 8, 128).sum((0, 3))  # [octave, leading bits]
    used = np.count_nonzero(patterns.reshape(2, 32, -1), axis=(0, 2))  # [octave]
    found = [
        float(leading[octave].max() / max(leading[octave].min(), 1.0))
        for octave in np.argsort(leading.sum(1))[-2:]
        if used[octave] > 64  # ternary weights use a few
    ]
    return min(found, default=0.0)


def _reads_well(patterns: Counts, dtype: str) -> bool:
    found = moments_of(patterns, values_of_patterns(dtype))
    if found is None:
        return False
    mean, std = found
    return PLAUSIBLE_STD[0] <= std <= PLAUSIBLE_STD[1] and abs(mean) <= std
