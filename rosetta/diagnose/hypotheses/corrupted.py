"""A region of a weight that differs, by no rule (`value.corrupted`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rosetta.compare.block_cuts import block_cut
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import of_weights, taking
from rosetta.diagnose.region import ratios_of
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.corrupted",
        means="A region of a weight differs by no rule.",
        why="A copy was cut short or written over, a block's scales are unpacked wrongly, or some rows are another "
        "model's.",
        repair="The region is taken from the reference, and the proof says which and how many. Copy or export the "
        "tensor again.",
        order=90,
    ),
)

LAST_RESORT = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values in the blocks that differ by more than their dtypes explain."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is not None and other.dims == weight.dims:
            yield from _taking_blocks(suspect, weight, other)


def _taking_blocks(suspect: Suspect, weight: Weight, other: Weight) -> Iterator[Proposal]:
    ratios = ratios_of(weight, other)
    # The cut of a plain encoder first, then that of any; of one quantised dtype any difference may be the fault.
    for limit in (block_cut(weight, other, 0.0), block_cut(weight, other, math.inf), 0.0):
        region = ratios.beyond(limit)
        if not region.count:
            continue
        said = of_weights(region.count, weight.count)
        yield Proposal(
            kind="value.corrupted",
            role=suspect.role,
            repair=taking(suspect, weight, other, region.mask, region.rows),
            tensor=weight.name,
            message=f"{weight.name} differs in {said}, {region.where}",
            recommendation=f"copy or export {weight.entry.name} again: {region.where} are damaged",
            from_reference=said,
            taken=region.count,
        )
