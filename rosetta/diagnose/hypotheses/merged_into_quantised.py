"""An adapter that was merged into a base which had been quantised (`adapter.merge`), whether or not it is at hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rosetta.adapted import Merged, merge_of, without_merge
from rosetta.compare.kept_order import EIGHT
from rosetta.compare.pairing import Role
from rosetta.diagnose.hypotheses.known_adapter import (
    CERTAIN,
    CLOSE,
    Exchanged,
    Times,
    how_often,
    times_merged,
)
from rosetta.diagnose.hypotheses.low_rank import Added, factors_of
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed
from rosetta.diagnose.quantised_base import OfAdapter, OfFactors, over_quantised
from rosetta.diagnose.quantisers import (
    Quantiser,
    Unrounded,
    is_nearer,
    is_rounded_from,
    own_quantiser,
    quantised,
    quantiser_of,
)
from rosetta.dtypes import FLOATS
from rosetta.edits import ValuesEdit
from rosetta.model import Model
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

TAKES_FROM_REFERENCE = True
ERRORS = 3.0  # standard deviations of a fitted product that its numbers are off by at most
SPIKE = 12.0  # times the middle error: rounded values are off by a few of it
MERGED = "merged"  # once
MEDIAN = 1.4826  # standard deviations of a normal error in its middle magnitude


@dataclass(frozen=True)
class Found:
    """What a weight turned out to be made of.

    Args:
        edits: that take it back to what it should be.
        scheme: of the base beneath it.
        shown: what shows that, in words.
    """

    edits: tuple[ValuesEdit, ...]
    scheme: str
    shown: str


def propose(fault: Fault) -> Iterator[Proposal]:
    """What lies beneath the adapter on the side that does not have it beside its base."""
    for suspect, weight, original in fault.accused_matrices_and_originals():
        if merge_of(weight) is not None:
            continue
        if merge_of(original) is not None:
            yield from _of_known(fault, suspect.role, suspect.model, weight, original)
        else:
            yield from _of_unknown(fault, suspect.role, suspect.model, weight, original)


def _of_known(fault: Fault, role: Role, model: Model, weight: Weight, merged: Weight) -> Iterator[Proposal]:
    """The base beneath an adapter that the other side has at hand: it is merged once, or so often."""
    merge, base = merge_of(merged), without_merge(merged)
    assert merge is not None
    again = _quantised_again(weight, merged, base, merge)
    if again is not None:
        yield _proposal(fault, role, model, weight, again, MERGED)
        return
    times, error = times_merged(weight, merged, base)
    close = max(CERTAIN * error, CLOSE)
    times = 1.0 if abs(times - 1) <= close else times
    if merge.lengths is not None:  # whose rows have their lengths whatever is added
        times = 1.0
    found = _beneath(weight, base, merge, times)
    if found is None:
        return
    if times != 1:
        found = replace(found, edits=(*found.edits, Times(merged, base, 1 - times)))
    taken = None if times == 1 else "1 number: how many times the adapter is merged"
    yield _proposal(fault, role, model, weight, found, how_often(times, close, merge), taken)


def _proposal(
    fault: Fault, role: Role, model: Model, weight: Weight, found: Found, how: str, taken: str | None = None
) -> Proposal:
    return Proposal(
        kind="adapter.merge",
        role=role,
        repair=changed(model, weight, *found.edits),
        tensor=weight.name,
        actual=f"{how} into a base that had been quantised, {found.scheme}",
        message=f"{weight.name}: the adapter is {how} in the {fault.side(role)} file, into a base that had been "
        f"quantised: {found.shown}",
        recommendation=_remedy(weight),
        from_reference=taken,
        moves=any(edit.touches(0, 1) for edit in found.edits),
    )


def _quantised_again(weight: Weight, merged: Weight, base: Weight, merge: Merged) -> Found | None:
    """The quantiser of a copy that was merged as it lay and packed again, as peft merges into packed weights: what the
    adapter adds is lost wherever it is less than half a step."""
    quantiser = own_quantiser(weight)
    if quantiser is None:
        return None
    again, once = (quantised(x, quantiser) for x in (_merged_into_quantised(base, quantiser, merge), merged))
    if not is_nearer(weight, again, once):
        return None
    name = quantiser.name
    return Found((Exchanged(again, merged),), name, f"{name}, which the sum was put into again")


def _merged_into_quantised(base: Weight, quantiser: Quantiser, merge: Merged) -> Weight:
    made = quantised(base, quantiser)
    return replace(made, values_edits=(*made.values_edits, merge))


def _beneath(weight: Weight, base: Weight, merge: Merged, times: float) -> Found | None:
    """The levels that a float weight lies on without the adapter, or the quantiser whose errors it holds."""
    quantiser = quantiser_of(weight, base, OfAdapter(merge, base, times))
    beneath = base if quantiser is None else quantised(base, quantiser)  # which lengths of rows are of
    addition = OfAdapter(merge, beneath, times)
    lattice = over_quantised(weight, addition, base)
    if lattice is not None:
        edit, name = lattice
        return Found((edit,), name, f"without the adapter it lies on the lattice of {name}")
    if quantiser is None:
        return None
    made = _merged_into_quantised(base, quantiser, merge)
    rounding = Unrounded(base, quantiser, addition, is_rounded_from(weight, made))
    return Found((rounding,), quantiser.name, f"beneath it are the errors of {quantiser.name}")


def _of_unknown(
    fault: Fault, role: Role, model: Model, weight: Weight, original: Weight
) -> Iterator[Proposal]:
    """A base that is the other side's but for being quantised, and a matrix of low rank over it."""
    quantiser = quantiser_of(weight, original) or _beside_adapter(weight, original)
    if quantiser is None:
        return
    base = quantised(original, quantiser)
    gap = _gap(weight, base)
    factors = None if is_rounded_from(weight, base) else _without_spikes(gap)
    if factors is None or not _shows(weight, *factors):
        return
    left, right = factors
    lattice = over_quantised(weight, OfFactors(left, right, _off(gap, left, right)), original)
    levels: ValuesEdit = Unrounded(original, quantiser) if lattice is None else lattice[0]
    whole = sum(float(weight.values(*rows).square().sum()) for rows in row_ranges(weight))
    size = float((left @ right).norm()) / math.sqrt(whole)
    rank, numbers, side = left.shape[1], left.numel() + right.numel(), fault.side(role)
    yield Proposal(
        kind="adapter.merge",
        role=role,
        repair=changed(model, weight, levels, Added(left, right, weight.dtype)),
        tensor=weight.name,
        actual=f"{MERGED} into a base that had been quantised, {quantiser.name}",
        message=f"{weight.name}: an adapter, a matrix of rank {rank} and {size:.2g} of the weight's size, is merged in "
        f"the {side} file into a base that had been quantised: beneath it are the errors of {quantiser.name}",
        recommendation=_remedy(weight),
        from_reference=f"{numbers} numbers for {weight.count} weights: a matrix of rank {rank}",
    )


def _beside_adapter(weight: Weight, original: Weight) -> Quantiser | None:
    """The quantiser whose errors show once what is seen of the adapter without it is taken off."""
    factors = factors_of(_gap(weight, original))
    if factors is None:
        return None
    fitted = (factors[0].numel() + factors[1].numel()) / weight.count
    return quantiser_of(weight, original, OfFactors(*factors), fitted)


def _gap(a: Weight, b: Weight) -> Tensor:
    """a − b, [R, C]."""
    return torch.cat(spread(lambda rows: a.values(*rows) - b.values(*rows), row_ranges(a)))


def _without_spikes(gap: Tensor) -> tuple[Tensor, Tensor] | None:
    """The factors of a difference of low rank, found once more without what is far off them: a weight half-way between
    two levels may have been given the other one."""
    found = factors_of(gap)
    if found is None:
        return None
    product = found[0] @ found[1]
    left = (gap - product).abs()
    return factors_of(torch.where(left > SPIKE * left.median(), product, gap)) or found


def _shows(weight: Weight, left: Tensor, right: Tensor) -> bool:
    """Whether a product is larger than what the dtype that it was added in rounds away, where errors of values that lie
    on levels have a low rank, too; that of a coarser dtype breaks the order of its levels."""
    if weight.dtype not in {*FLOATS, *EIGHT}:
        return True
    rows = row_ranges(weight)[0]
    return bool((left[slice(*rows)] @ right).norm() > weight.sigma(*rows).norm())


def _off(gap: Tensor, left: Tensor, right: Tensor) -> float:
    """By how much the numbers of a fitted product are off at most: the noise that it was fitted through, spread over
    what it leaves free of all the numbers."""
    noise = (gap - left @ right).abs().median() * MEDIAN
    return ERRORS * float(noise) * math.sqrt(left.shape[1] * sum(gap.shape) / gap.numel())


def _remedy(weight: Weight) -> str:
    name = weight.entry.name
    return f"merge the adapter into the original {name}, as it was before it was quantised, and export again"
