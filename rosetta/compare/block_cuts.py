"""How far a block of two clean copies may be off: what dtypes and their encoders do, and no fault."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rosetta.weight import Weight

# How far a block's error may lie above its predicted rms, measured on clean copies (docs/noise.md, "Constants"):
# where 99 % of a tensor's blocks lie below the first number its encoder was a plain one, and the second is the cut.
# An encoder that weighed some weights more than others has wider tails the higher that 99 % lies, and the cut grows
# with its power, up to the third.
PLAIN_BELOW, PLAIN_CUT, ANY_CUT = 0, 1, 2
TAIL_POWER = 6
BLOCK_CUTS: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("F64", "F32", "F16", "BF16"), (1.60, 2.0, 4.0)),
    **dict.fromkeys(("Q8_0", "APR_Q8"), (1.25, 2.0, 3.0)),
    "APR_Q4": (1.30, 2.0, 12.0),
    "Q4_0": (1.18, 2.0, 12.0),
    "Q5_0": (1.15, 2.0, 12.0),
    **dict.fromkeys(("Q5_1", "Q4_1"), (1.08, 2.0, 12.0)),
    "Q6_K": (1.14, 2.0, 16.0),
    "Q5_K": (0.98, 2.0, 10.0),
    "Q4_K": (1.00, 2.0, 12.0),
    "Q3_K": (1.30, 2.5, 10.0),
    "Q2_K": (1.17, 3.5, 20.0),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), (1.09, 2.0, 9.0)),
    **dict.fromkeys(("MXFP4", "NVFP4"), (1.60, 2.5, 2.5)),
    "IQ3_S": (1.15, 2.5, 7.0),
    "IQ3_XXS": (1.20, 2.5, 7.0),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), (1.25, 2.0, 2.0)),
}
OTHER_CUTS = (1.20, 2.5, 40.0)  # IQ2, IQ1
COMMON = 0.99
SAMPLE = 4096  # values of which one in fifty lies above where to look: enough to tell where that is


def common_ratio(ratios: Tensor) -> float:
    """The ratio that 99 % of a tensor's blocks stay below."""
    flat = ratios.flatten()
    place = max(1, math.ceil(COMMON * flat.numel())) - 1
    if flat.device.type == "cpu":
        return float(_in_order(flat.numpy(), place))
    return float(flat.kthvalue(place + 1).values)


def _in_order(values: NDArray[np.float32], place: int) -> np.float32:
    """The value that stands at a place near the end once all are sorted; none is NaN.

    What lies below the like place of a sample, twice as far from the end, is only counted: to part all of them, which
    numpy does in a third of torch's time, takes seven times as long.
    """
    some = values[:: max(1, len(values) // SAMPLE)]
    low = _parted(some, max(0, len(some) - 2 * len(some) * (len(values) - place) // len(values)))
    above = values[values >= low]
    below = len(values) - len(above)
    return _parted(values, place) if place < below else _parted(above, place - below)


def _parted(values: NDArray[np.float32], place: int) -> np.float32:
    found: np.float32 = np.partition(values, place)[place]
    return found


def block_cut(left: Weight, right: Weight, common: float) -> float:
    """The block ratio beyond which one of two copies is faulty.

    Args:
        left, right: the copies; the coarser dtype decides.
        common: the ratio that 99 % of their blocks stay below.
    """
    cuts = _cuts(left, right)
    spread_out = max(1.0, common / cuts[PLAIN_BELOW])
    return min(cuts[ANY_CUT], cuts[PLAIN_CUT] * spread_out**TAIL_POWER)


def plain_limit(left: Weight, right: Weight) -> float:
    """The ratio that 99 % of the blocks stay below where the encoder was a plain one."""
    return _cuts(left, right)[PLAIN_BELOW]


def _cuts(left: Weight, right: Weight) -> tuple[float, float, float]:
    like = left.encoded_like or right.encoded_like
    if like is not None:  # a repair says how coarse the values are, whatever they are stored as
        return BLOCK_CUTS[like]
    coarser = min(
        (left, right), key=lambda weight: weight.entry.file_bytes / max(1, math.prod(weight.entry.dims))
    )
    return BLOCK_CUTS.get(coarser.dtype, OTHER_CUTS)
