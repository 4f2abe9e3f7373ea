"""A norm's factors that stand on one side in the matrices behind it: both compute the same (`value.folded`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from rosetta.diagnose.edits import FromOther
from rosetta.diagnose.hypotheses.cell_factors import Cells, fitted_cells
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import edited
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import variance

KINDS = (
    FindingKind(
        "value.folded",
        means="A norm's factors stand in the matrices that read it on one side, and in the norm on the other.",
        why="A norm's weight was multiplied into the columns behind it and set to one, as for a rotation or a tool "
        "that looks into models, or channels were smoothed before a quantisation.",
        repair="The columns are divided by what the norm lacks, and that stands in it. Nothing is to be exported.",
        order=35,
        title="folded norm",
        together="are norms whose factors stand in the matrices behind them: what is computed is the same",
        of_file="nothing is computed otherwise on the {side} side; to compare it stage by stage, fold the norms of "
        "both files or of neither",
    ),
)


# Standard deviations, of all columns by their root mean square: by how much they are off without the norm's factors,
# and with them.
SHOWN, CERTAIN = 6.0, 3.0
LEAST_ERROR = 1e-7  # of a factor that is fitted to float32
LEAST_CORRELATION = 0.5  # of a matrix with the other side's once its columns are divided


def propose(fault: Fault) -> Iterator[Proposal]:
    """For each norm that differs: what it is more than the other side's, taken off the columns that read it."""
    if fault.recorded:
        return
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or len(weight.dims) != 1 or weight.dims != other.dims:
            continue
        readers = _readers(fault, suspect, weight.dims[0])
        columns = {matrix.name: _columns(suspect, weight, other, matrix) for matrix in readers}
        found = {name: cells for name, cells in columns.items() if cells is not None}
        if readers and len(found) == len(readers):
            yield _proposal(suspect, weight, other, readers, found)


def _all(start: int, values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def _columns(suspect: Suspect, weight: Weight, other: Weight, matrix: Weight) -> Cells | None:
    """The factors of a matrix's columns, where they are just what a norm lacks; else None."""
    theirs = suspect.counterpart(matrix)
    if theirs is None or theirs.dims != matrix.dims:
        return None
    norm, believed = weight.values().double(), other.values().double()
    lacks = believed / norm
    if not bool(lacks.isfinite().all()) or bool((lacks == 0).any()):
        return None
    columns = fitted_cells(matrix, theirs, "factor", matrix.dims[0], 1)
    rounding = torch.hypot(weight.sigma().double() / norm, other.sigma().double() / believed)
    parts = [variance(matrix, theirs, *rows).double().sum(0) for rows in row_ranges(matrix)]
    explained = torch.stack(parts).sum(0) / matrix.dims[0]
    factors, known = columns.numbers[0].double(), columns.known[0].double()
    fit = (explained / known.clamp(min=1e-300)).sqrt().clamp(min=LEAST_ERROR)
    if not _rms((factors - 1) / fit) >= SHOWN:
        return None  # beneath the noise of quantisation any norm would do
    if not _rms((factors / lacks - 1) / torch.hypot(rounding, fit / factors.abs())) <= CERTAIN:
        return None
    divided = edited(columns)(matrix)
    return columns if divided is not None and looks_like(divided, theirs, LEAST_CORRELATION) else None


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _readers(fault: Fault, suspect: Suspect, width: int) -> list[Weight]:
    """The matrices that the stage's values are multiplied by; none where something else reads them too."""
    found: list[Weight] = []
    for node in fault.pair.reference.graph:
        if fault.stage not in node.inputs:
            continue
        weights = (suspect.model.weights.get(name) for name in node.tensors)
        matrices = [weight for weight in weights if weight is not None and weight.dims[1:] == (width,)]
        if not matrices:
            return []
        found += matrices
    return found


def _proposal(
    suspect: Suspect, weight: Weight, other: Weight, readers: list[Weight], columns: Mapping[str, Cells]
) -> Proposal:
    patches: dict[str, Patch] = {name: edited(cells) for name, cells in columns.items()}
    patches[weight.name] = edited(FromOther(other, _all, (0, weight.dims[0])))
    names = ", ".join(matrix.name for matrix in readers)
    where = f"the columns of {names}"
    if bool((weight.values() == 1).all()):
        said = f"is one throughout, and its factors stand in {where}"
    elif bool((other.values() == 1).all()):
        said = f"holds factors that stand in {where} on the other side, where it is one throughout"
    else:
        said = f"has each channel multiplied by a factor of its own that is taken off again in {where}"
    return Proposal(
        kind="value.folded",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=weight.name,
        message=f"{weight.name} {said}: both sides compute the same",
        recommendation=f"leave {weight.entry.name} as it is, or fold the norms of both files, to compare them stage by "
        "stage: nothing is computed otherwise",
        from_reference=f"{weight.count} numbers for {sum(matrix.count for matrix in readers)} weights",
    )
