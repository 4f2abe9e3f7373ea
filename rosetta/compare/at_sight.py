"""The copies of a weight in two models that are known not to be one: some rows say that they differ, and how far.

All of a matrix is compared where those rows agree, for a fine-tune may leave some matrices as they were.
"""

from __future__ import annotations

from dataclasses import replace

from rosetta.compare.weights import WeightPair, compare_weights
from rosetta.weight import Device, Weight
from rosetta.weight_cache import DecodedPair

SAMPLED = 1 << 17  # weights of a matrix: their rms and correlation are known to a few parts in a thousand


def compare_at_sight(
    reference: Weight, other: Weight, device: Device = "cpu", kept: DecodedPair | None = None
) -> WeightPair:
    """Compare some rows from all over two canonical weights, and all of them where these do not differ.

    The arguments are those of `compare_weights`. Of what differs the figures are the sample's, and `sampled` says so.
    """
    rows = _rows(reference)
    if rows and reference.dims == other.dims:
        some = [weight.only(rows) for weight in (reference, other)]
        if some[0] is not reference and some[1] is not other:
            found = compare_weights(some[0], some[1], device)
            if found.state == "differing":
                place = found.worst_block
                worst = None if place is None else (rows[place[0]], place[1])
                return replace(found, worst_block=worst, salient=None, sampled=len(rows))
    return compare_weights(reference, other, device, kept)


def _rows(weight: Weight) -> list[int]:
    """Rows from all over a matrix; none of a vector, or of a matrix that is hardly larger than its sample."""
    if len(weight.dims) != 2 or weight.count <= 2 * SAMPLED:
        return []
    total, columns = weight.dims
    count = max(1, SAMPLED // columns)
    return [(2 * place + 1) * total // (2 * count) for place in range(count)]
