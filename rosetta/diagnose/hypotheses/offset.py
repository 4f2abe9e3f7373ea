"""One amount added to all values of a weight: a norm's `w` stored as `1 + w`, or the reverse (`value.offset`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.diagnose.edits import Offset
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import for_all_names, row_blocks_of
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """The amount by which each accused weight is off on average, where that is most of the difference."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        amount = fitted_offset(weight, other) if other is not None and other.dims == weight.dims else None
        if amount is None:
            continue
        edit = Offset(amount)
        yield Proposal(
            kind="value.offset",
            role=suspect.role,
            repair=Repair(
                patches=for_all_names(
                    suspect.model, weight, lambda found, e=edit: replace(found, values_edits=(*found.values_edits, e))
                )
            ),
            tensor=weight.name,
            actual=amount,
            message=f"{weight.name} is {amount:+.6g} off in every value",
            recommendation=f"store {weight.entry.name} less {amount:.6g}: the exporter adds it once too often"
            if amount > 0
            else f"store {weight.entry.name} plus {-amount:.6g}: the exporter leaves it out",
        )


def fitted_offset(a: Weight, b: Weight) -> float | None:
    """The mean difference of two copies; None where it explains less than half of it."""
    total = squares = 0.0
    for x, y in row_blocks_of(a, b):
        gap = x.double() - y.double()
        total, squares = total + float(gap.sum()), squares + float(gap.square().sum())
    mean = total / max(1, a.count)
    if not mean or not mean * mean * a.count >= 0.5 * squares:
        return None
    nearest = round(mean)  # one added or left out is meant exactly
    return float(nearest) if nearest and abs(mean - nearest) < 1e-3 else mean
