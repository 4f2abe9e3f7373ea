"""All values of a weight times one factor, which may be negative (`value.scaled`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.diagnose.edits import Scaled
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import for_all_names, row_blocks_of
from rosetta.weight import Weight

LEAST_CORRELATION = 0.8  # between the two copies; a copy in two bits still has 0.9


def propose(fault: Fault) -> Iterator[Proposal]:
    """The factor that fits each accused weight best."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        factor = fitted_factor(weight, other) if other is not None and other.dims == weight.dims else None
        if factor is None:
            continue
        edit = Scaled(factor)
        yield Proposal(
            kind="value.scaled",
            role=suspect.role,
            repair=Repair(
                patches=for_all_names(
                    suspect.model, weight, lambda found, e=edit: replace(found, values_edits=(*found.values_edits, e))
                )
            ),
            tensor=weight.name,
            declared=None,
            actual=factor,
            message=f"{weight.name} is {factor:.6g} times what the other side holds",
            recommendation=f"divide {weight.entry.name} by {factor:.6g} on export, or do not multiply it",
        )


def fitted_factor(a: Weight, b: Weight) -> float | None:
    """The factor of least squares between two copies; None where it is 1 or the copies have little in common."""
    dot = norm_a = norm_b = 0.0
    for x, y in row_blocks_of(a, b):
        x, y = x.double(), y.double()
        dot, norm_a, norm_b = dot + float((x * y).sum()), norm_a + float((x * x).sum()), norm_b + float((y * y).sum())
    if not norm_a or not norm_b or not abs(dot) >= LEAST_CORRELATION * (norm_a * norm_b) ** 0.5:
        return None
    factor = dot / norm_b
    return None if abs(factor - 1) < 1e-6 else factor
