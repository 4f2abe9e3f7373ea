"""A tensor as one process of a distributed training held it: flat, without its dims, or a part of its rows or columns
(`layout.flattened`, `value.missing`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.compare.weights import readable
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import for_all_names, instead, of_weights, reading
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.flattened",
        means="A matrix is stored as one run of numbers, without its dims.",
        why="FSDP and ZeRO keep weights flat while they train, and a checkpoint was saved before they were joined.",
        repair="The numbers are read with the dims that the config demands. Save a full state dict.",
        whole=True,
        together="are stored flat, without their dims, as FSDP keeps them",
        of_file="save a full state dict on the {side} side (FSDP: FULL_STATE_DICT), in which each weight has its dims",
    ),
)

MOST_PARTS = 1024  # processes
SAMPLED = 1 << 16  # values of a part
NEARER = 0.25  # of the distance of the next part: what one is nearer by


def propose(fault: Fault) -> Iterator[Proposal]:
    """Weights whose dims the config belies: all of the values without dims, or a part that the other side has too."""
    if fault.recorded:
        return
    for suspect, weight in fault.accused_weights():
        wanted = suspect.model.mismatch(weight.name)
        other = suspect.other.weights.get(weight.name)
        if wanted is None or weight.slot is not None or not readable(weight):
            continue
        if len(weight.dims) == 1 < len(wanted) and weight.count == math.prod(wanted):
            yield _flattened(suspect, weight, wanted)
        elif other is not None and other.dims == wanted and readable(other):
            yield from _part(suspect, weight, other)


def _flattened(suspect: Suspect, weight: Weight, wanted: tuple[int, ...]) -> Proposal:
    patch = reading(stored_dims=wanted)
    return Proposal(
        kind="layout.flattened",
        role=suspect.role,
        repair=Repair(patches=for_all_names(suspect.model, weight, patch)),
        tensor=weight.name,
        declared=list(weight.entry.dims),
        actual=list(wanted),
        message=f"{weight.name} is stored flat, as {list(weight.entry.dims)}: its {weight.count} values are those of "
        f"{list(wanted)}, row by row",
        recommendation=f"save {weight.entry.name} with its dims {list(wanted)}: FSDP keeps weights flat until a full "
        "state dict is asked for",
    )


def _part(suspect: Suspect, weight: Weight, other: Weight) -> Iterator[Proposal]:
    """The proposal that a weight is one of so many equal parts of what the other side has, where it is one of them."""
    count = other.count // weight.count
    if not 2 <= count <= MOST_PARTS or count * weight.count != other.count:
        return
    axis = _axis(weight.dims, other.dims, count)
    which = None if axis is None else _which(weight, other, axis, count)
    if axis is None or which is None:
        return
    what = "values" if len(other.dims) == 1 else ("rows", "columns")[axis]
    first = which * other.dims[axis] // count
    last = first + other.dims[axis] // count - 1
    yield Proposal(
        kind="value.missing",
        role=suspect.role,
        repair=Repair(patches=for_all_names(suspect.model, weight, instead(other))),
        tensor=weight.name,
        declared=list(weight.entry.dims),
        actual=f"part {which + 1} of {count}",
        message=f"{weight.name} holds part {which + 1} of {count}: {what} {first} to {last} of "
        f"{other.dims[axis]}, stored as {list(weight.entry.dims)}",
        recommendation=f"join the parts of {weight.entry.name} that each process held before it is saved",
        from_reference=of_weights(other.count - weight.count, other.count),
        taken=other.count - weight.count,
    )


def _axis(dims: tuple[int, ...], whole: tuple[int, ...], count: int) -> int | None:
    """Along which axis dims are one of so many parts of others; of what is flat, along the first."""
    if len(dims) == 1 and whole[0] % count == 0:
        return 0
    parts = [
        axis
        for axis, size in enumerate(whole)
        if size % count == 0 and (*whole[:axis], size // count, *whole[axis + 1 :]) == dims
    ]
    return parts[0] if parts else None


def _which(weight: Weight, other: Weight, axis: int, count: int) -> int | None:
    """Which part it is: the one whose values, by size, are far nearer than those of any other. In what order rows lie
    does not matter: those of queries and keys follow the count of heads, which a part has fewer of."""
    held, whole = (_sorted_values(w) for w in (weight.values()[None], other.values().chunk(count, axis)))
    apart = (whole - held).square().sum(1)
    nearest, which = apart.min(0)
    rest = torch.cat([apart[: int(which)], apart[int(which) + 1 :]])
    return int(which) if bool(nearest <= NEARER**2 * rest.min()) and bool(nearest < math.inf) else None


def _sorted_values(parts: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Some values of each part, by size, [parts, values]."""
    flat = torch.stack([part.reshape(-1) for part in parts]).double()
    ordered = flat.sort(1).values
    return ordered[:, :: max(1, -(-ordered.shape[1] // SAMPLED))]
