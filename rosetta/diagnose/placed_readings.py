"""A packed weight with its scales, zero points, codes or groups where the other side's values say that they belong."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.blocks.schemes import Way
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.diagnose.code_places import codes_elsewhere, index_elsewhere
from rosetta.diagnose.packed_numbers import Beside, Known, Pairs, PlacedReading, scales_of
from rosetta.diagnose.scale_places import scales_elsewhere
from rosetta.diagnose.zero_places import zeros_elsewhere

ALIKE = 0.5  # of the squares of rows on their codes, below which the codes are other rows'


def placed_readings(pairs: Pairs, beside: Beside | None = None) -> Iterator[PlacedReading]:
    """Ways to read a packed weight, nearest causes first.

    Args:
        pairs, beside: see `Known`.
    """
    container = pairs[0][0].container
    assert isinstance(container, QuantisedContainer)
    packed = container.packed[pairs[0][0].entry.name]
    plain = all(not weight.values_edits and len(weight.dims) == 2 for weight, _ in pairs)
    if not plain or "scales" not in packed.parts or packed.way != Way():
        return
    known = Known(packed, container, pairs, beside or (lambda name: ()))
    yield from index_elsewhere(known)
    scales = scales_of(known)
    if scales is None:
        return
    if scales.fit < ALIKE:
        yield from codes_elsewhere(known)
    else:
        yield from scales_elsewhere(known, scales)
        yield from zeros_elsewhere(known, scales)
