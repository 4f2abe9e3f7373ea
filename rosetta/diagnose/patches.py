"""Small steps that several hypotheses take when they look at a weight or change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from rosetta.diagnose.edits import FromOther, Mask
from rosetta.diagnose.hypothesis import Suspect
from rosetta.model import Model, Patch
from rosetta.transformer import WEIGHTS_AT_ONCE
from rosetta.weight import Weight


def row_blocks_of(a: Weight, b: Weight) -> Iterator[tuple[Tensor, Tensor]]:
    """Two weights of equal dims, decoded by blocks of rows."""
    rows = a.dims[0] if a.dims else 1
    step = max(1, WEIGHTS_AT_ONCE // max(1, a.count // max(1, rows)))
    for start in range(0, rows, step):
        yield a.values(start, start + step), b.values(start, start + step)


def for_all_names(model: Model, weight: Weight, patch: Patch) -> dict[str, Patch]:
    """The patch for a weight and, of a tied head, for the other name of the same tensor."""
    if weight.part is not None and weight.name.startswith("blk."):
        return {weight.name: patch}
    return {name: patch for name, other in model.weights.items() if other.entry is weight.entry}


def taking(suspect: Suspect, weight: Weight, other: Weight, mask: Mask) -> tuple[dict[str, Patch], int, int] | None:
    """The patch that takes some values from the other side; with how many, of how many; None for none."""
    edit = FromOther(weight, other, mask)
    taken, count = edit.count()
    if not taken:
        return None
    patches = for_all_names(
        suspect.model, weight, lambda found: replace(found, values_edits=(*found.values_edits, edit))
    )
    return patches, taken, count


def of_weights(taken: int, count: int) -> str:
    """`12 of 65536 weights`."""
    return f"{taken} of {count} weights"
