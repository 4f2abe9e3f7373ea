"""Whether a repair of a weight explains what was wrong with it, or comes near the other side's copy by chance.

Of the true cause, what a value lacks of the other side's copy falls by what the repair adds to it. A repair that has
nothing to do with the cause makes right values wrong as often as the reverse, or leaves nearly all as they were and
agrees because they had agreed before.

Letters: g = what a value lacks of the other side's before the repair, h = after it.
"""

from __future__ import annotations

import math

import torch

from rosetta.compare.weights import readable
from rosetta.weight import Weight, row_ranges

# Each value says by how much it is nearer: ln(g / h), nought on average where the repair has nothing to do with it.
# The ratio of two unrelated normal errors is Cauchy's, whose logarithm has the variance π²/4. So many standard
# deviations of the sum come about once in 30,000 such repairs.
DEVIATIONS = 4.0
VARIANCE = math.pi**2 / 4
FARTHEST = 10.0  # of a logarithm: equal in all that float16 holds
SAMPLED = 4  # ranges of rows, about a million weights each
UNCHANGED = "it changes no value"
MOSTLY = 0.5  # of a size


def no_proof(stored: Weight, mended: Weight, truth: Weight) -> str | None:
    """Why a repair of a weight that now agrees with the other side's proves nothing; None where it does prove it.

    Args:
        stored: the weight without the repair.
        mended: with it.
        truth: the other side's.
    """
    if stored.dims != truth.dims or mended.dims != truth.dims or not readable(stored):
        return None  # its dims or its size were wrong already
    ranges = row_ranges(stored)
    nearer = squares = changed = 0.0
    for rows in ranges[:: max(1, -(-len(ranges) // SAMPLED))]:
        a, b, c = (weight.values(*rows).double() for weight in (stored, mended, truth))
        g, h = ((c - x).abs_().nan_to_num_(math.inf, math.inf) for x in (a, b))
        each = (g.log() - h.log()).clamp_(-FARTHEST, FARTHEST)
        each = torch.where(g == h, 0.0, each)
        nearer += float(each.sum())
        squares += float(each.square().sum())
        changed += float((g != h).sum())
    if not changed:
        return UNCHANGED
    if nearer < DEVIATIONS * math.sqrt(min(squares, VARIANCE * changed)):
        return "as many of the values it changes are farther from the other side's as are nearer"
    return None


def takes_back(stored: Weight | None, once: Weight | None, twice: Weight | None) -> bool:
    """Whether a second change of a weight brings it back to what is stored: nearer than half of what the first one
    did, and than half of its size.

    Args:
        stored, once, twice: the weight without a repair, with the first and with both.
    """
    if stored is None or once is None or twice is None or not stored.dims == once.dims == twice.dims:
        return False
    if not readable(stored):
        return False
    ranges = row_ranges(stored)
    moved = left = size = 0.0
    for rows in ranges[:: max(1, -(-len(ranges) // SAMPLED))]:
        a, b, c = (weight.values(*rows).double() for weight in (stored, once, twice))
        moved, left = moved + float((b - a).square().sum()), left + float((c - a).square().sum())
        size += float(a.square().sum())
    return left < MOSTLY**2 * min(moved, size)
