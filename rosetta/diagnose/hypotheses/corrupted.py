"""A region of a weight that differs, by no rule (`value.corrupted`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rosetta.compare.block_cuts import block_cut, plain_limit
from rosetta.compare.weights import compare_weights
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import of_weights, taking
from rosetta.diagnose.region import ratios_of
from rosetta.diagnose.wrong_pair import RELATED, correlation
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
    FindingKind(
        "value.other_weights",
        means="A weight, or every weight, differs from the other side's everywhere.",
        why="The files are two models: a base and its fine-tune, two fine-tunes, two revisions; or one tensor comes "
        "from another checkpoint, or is a copy of another tensor of this one.",
        repair="Of a copy, its own values are taken from the reference. Else none: a repair would take all of it from "
        "the reference, which `rosetta repair` does under --allow-copy alone. Compare files that were made from one "
        "model.",
        order=95,
        title="other weights",
        together="hold other weights than the other file's throughout: a fine-tune of these, another revision or "
        "another checkpoint",
    ),
)

LAST_RESORT = True
MOST, NEARLY_ALL = 0.5, 0.9  # of a tensor's values: taking them from the reference proves nothing


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
        # Damage leaves the rest as it was; beneath a coarse dtype some blocks of other weights are near enough.
        beside = ratios.beside(region) > plain_limit(weight, other)
        nearly_all = region.count > (MOST if beside else NEARLY_ALL) * weight.count
        everywhere = nearly_all and (len(weight.dims) > 1 or correlation(weight, other) >= RELATED)
        yield Proposal(
            kind="value.other_weights" if everywhere else "value.corrupted",
            role=suspect.role,
            repair=taking(suspect, weight, other, region.mask, region.rows),
            tensor=weight.name,
            message=f"{weight.name} differs everywhere from the other side's, {_likeness(weight, other)}"
            if everywhere
            else f"{weight.name} differs in {said}, {region.where}",
            recommendation=f"see which checkpoint {weight.entry.name} was made from: it holds other weights"
            if everywhere
            else f"copy or export {weight.entry.name} again: {region.where} are damaged",
            from_reference=said,
            taken=region.count,
        )


def _likeness(weight: Weight, other: Weight) -> str:
    cosine = compare_weights(other, weight).cosine
    return (
        "which it has nothing in common with"
        if cosine is None
        else f"which it correlates with at {cosine:.3g}"
    )
