"""A region of a weight that differs, by no rule (`value.corrupted`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.compare.block_cuts import block_cut, plain_limit
from rosetta.compare.trait import LEAST
from rosetta.compare.weights import compare_weights, readable
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
    FindingKind(
        "layout.reordered",
        means="A tensor holds the other side's values, each once, in an order that is none of rows or columns.",
        why="It was reshaped or turned in parts: heads one by one, ranks joined along the wrong axis.",
        repair="None: all of it would be taken from the reference. Find the reshape or transpose in the exporter.",
        order=94,
        title="values in another order",
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
REORDERED = (
    "holds the other side's values, each once, in another order, which is none of its rows or columns: it was reshaped "
    "or turned in parts"
)
PARTS = "of heads one by one, or of parts joined along the wrong axis"
RUNS = 64  # of values by size
MIXED = 0.5  # correlation of values as they lie: what is mostly in its place is no order
SAME = 0.25  # of s / √n, by which the order statistics of two draws of n values are apart, and more
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
        everywhere = region.count > (MOST if beside else NEARLY_ALL) * weight.count
        kind, message, remedy = "value.corrupted", f"differs in {said}, {region.where}", None
        if everywhere and holds_the_same_values(weight, other):
            kind, message, remedy = (
                "layout.reordered",
                REORDERED,
                "look for a reshape or transpose of {}: " + PARTS,
            )
        elif everywhere:
            kind = "value.other_weights"
            message = f"differs everywhere from the other side's, {_likeness(weight, other)}"
            remedy = "see which checkpoint {} was made from: it holds other weights"
        remedy = remedy or f"copy or export {{}} again: {region.where} are damaged"
        yield Proposal(
            kind=kind,
            role=suspect.role,
            repair=taking(suspect, weight, other, region.mask, region.rows),
            tensor=weight.name,
            message=f"{weight.name} {message}",
            recommendation=remedy.format(weight.entry.name),
            from_reference=said,
            taken=region.count,
        )


def holds_the_same_values(weight: Weight, other: Weight) -> bool:
    """Whether two tensors of one size hold the same values in two orders.

    Sorted and averaged over runs, which takes the rounding off, they agree far better than two draws of as many values
    from one distribution would; as they lie they have little in common.
    """
    if (
        weight.count != other.count
        or weight.count < RUNS * LEAST
        or not (readable(weight) and readable(other))
    ):
        return False
    x, y = (each.values().flatten().double() for each in (weight, other))
    size = float(y.std())
    if not bool(x.isfinite().all() and y.isfinite().all()) or not size or not float(x.std()):
        return False
    if abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) > MIXED:
        return False
    means = [_means_of_runs(values) for values in (x, y)]
    apart = (means[0] - means[1])[1:-1].square().mean().sqrt()
    return float(apart) < SAME * size / math.sqrt(weight.count)


def _means_of_runs(values: Tensor) -> Tensor:
    ordered = values.sort().values
    return ordered[: len(ordered) // RUNS * RUNS].view(RUNS, -1).mean(1)


def _likeness(weight: Weight, other: Weight) -> str:
    cosine = compare_weights(other, weight).cosine
    return (
        "which it has nothing in common with"
        if cosine is None or math.isnan(cosine)
        else f"which it correlates with at {cosine:.3g}"
    )
