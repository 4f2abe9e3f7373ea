"""Small steps that several hypotheses take when they look at a weight or change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rosetta.containers.container import ContainerDefaults, Setting, TensorEntry, TensorInput
from rosetta.containers.spool import declared
from rosetta.diagnose.edits import FromOther, Mask
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.edits import ValuesEdit
from rosetta.model import Model, Patch
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

FITTED_BLOCKS = 4  # of about a million weights each


def sampled_blocks_of(a: Weight, b: Weight) -> list[tuple[Tensor, Tensor]]:
    """Two weights of equal dims, float64 blocks of rows from all over them: enough to fit one number to."""
    ranges = row_ranges(a)
    some = ranges[:: max(1, len(ranges) // FITTED_BLOCKS)][:FITTED_BLOCKS]
    return spread(lambda rows: (a.values(*rows).double(), b.values(*rows).double()), some)


def reading(**changes: Any) -> Patch:
    """The patch that reads a weight with some fields of `Weight` changed."""

    def patch(found: Weight | None) -> Weight | None:
        return None if found is None else replace(found, **changes)

    return patch


def instead(weight: Weight) -> Patch:
    """The patch that puts another weight in place, whether or not the file has one of the name."""

    def patch(found: Weight | None) -> Weight:
        return weight

    return patch


def for_all_names(model: Model, weight: Weight, patch: Patch) -> dict[str, Patch]:
    """The patch for a weight and, of a tied head, for the other name of the same tensor."""
    if weight.part is not None and weight.name.startswith("blk."):
        return {weight.name: patch}
    return {name: patch for name, other in model.weights.items() if other.same_place(weight)}


def edited(*edits: ValuesEdit) -> Patch:
    """The patch that edits a weight's values: shape and order stay what they are."""

    def patch(found: Weight | None) -> Weight | None:
        return None if found is None else replace(found, values_edits=(*found.values_edits, *edits))

    return patch


def changed(model: Model, weight: Weight, *edits: ValuesEdit) -> Repair:
    """The repair that edits a weight's values."""
    return Repair(patches=for_all_names(model, weight, edited(*edits)))


def fitted(
    fault: Fault,
    from_stage: Callable[[Fault, Weight], float | None],
    from_copies: Callable[[Weight, Weight], float | None],
) -> Iterator[tuple[Suspect, Weight, float]]:
    """Each accused weight with the number that fits it best: of a recorded run the stage tells it, else the other
    side's copy."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded:
            number = from_stage(fault, weight)
        else:
            number = from_copies(weight, other) if other is not None and other.dims == weight.dims else None
        if number is not None:
            yield suspect, weight, number


def taking(suspect: Suspect, weight: Weight, other: Weight, mask: Mask, rows: tuple[int, int]) -> Repair:
    """The repair that takes some values from the other side; see `FromOther`."""
    return changed(suspect.model, weight, FromOther(other, mask, rows))


def taken_from_other(
    fault: Fault, kind: str, masking: Callable[[Weight, Weight], Mask], said: str, cause: str
) -> Iterator[Proposal]:
    """Proposals to take some values of each accused weight from the other side.

    Args:
        fault: the faulty stage.
        kind: the finding kind.
        masking: which values, given both copies.
        said: what is wrong, with `{where}` for how many.
        cause: why the weight should be exported again.
    """
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims:
            continue
        mask = masking(weight, other)
        ranges = row_ranges(weight)
        counts = spread(partial(_masked, weight, mask), ranges)
        hit = [rows for rows, count in zip(ranges, counts, strict=True) if count]
        if not hit:
            continue
        where = of_weights(sum(counts), weight.count)
        yield Proposal(
            kind=kind,
            role=suspect.role,
            repair=taking(suspect, weight, other, mask, (hit[0][0], hit[-1][1])),
            tensor=weight.name,
            message=f"{weight.name} {said.format(where=where)}",
            recommendation=f"export {weight.entry.name} again: {cause}",
            from_reference=where,
        )


def _masked(weight: Weight, mask: Mask, rows: tuple[int, int]) -> int:
    return int(mask(rows[0], weight.values(*rows)).sum())


def of_weights(taken: int, count: int) -> str:
    """`12 of 65536 weights`."""
    return f"{taken} of {count} weights"


class InMemory(ContainerDefaults):
    """A container of one tensor that no file holds, so that it is read as any other."""

    kind, label, path, architecture = "memory", "MEMORY", Path("memory"), None
    metadata: Mapping[str, Any] = MappingProxyType({})
    settings: Mapping[str, Setting] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def __init__(self, tensor: TensorInput) -> None:
        self.entry = declared(tensor)
        self.tensors: Mapping[str, TensorEntry] = {tensor.name: self.entry}
        self.file_bytes, self._data = tensor.data.nbytes, tensor.data.reshape(-1)

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        return self._data[start : None if nbytes is None else start + nbytes].copy()

    def close(self) -> None:
        """Nothing is open."""


def in_memory(name: str, values: Tensor) -> Weight:
    """A weight of the given values, float32 of any shape."""
    data = values.contiguous().numpy().reshape(-1).view(np.uint8)
    return weight_of(TensorInput(name, "F32", tuple(values.shape), data))


def zeros(name: str, dims: tuple[int, ...]) -> Weight:
    """A weight of zeros, which takes no memory."""
    return weight_of(TensorInput(name, "F32", dims, np.broadcast_to(np.uint8(0), 4 * prod(dims))))


def weight_of(tensor: TensorInput) -> Weight:
    """A weight of its own name that is all of a tensor."""
    container = InMemory(tensor)
    return Weight(tensor.name, container, container.entry, tensor.dtype, tensor.dims)
