"""A float weight whose values lie on a lattice of few levels, or a quantised one that has another quantiser's errors
beneath its own: it was made from a quantised checkpoint (`value.requantised`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.compare.pairing import Role, other_role
from rosetta.compare.structure import SMALLER
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.lattices import halves_of_vector, lattice_of, sampled
from rosetta.diagnose.patches import changed
from rosetta.diagnose.quantisers import Unrounded, is_rounded_from, quantised, quantiser_of
from rosetta.dtypes import FLOATS
from rosetta.edits import ValuesEdit
from rosetta.finding_kind import FindingKind
from rosetta.model import Model
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.requantised",
        means="The values of a float tensor lie on the few levels of a quantised format, or those of a quantised one "
        "have the errors of another format besides: they were quantised before.",
        why="A model is converted from a checkpoint that was loaded in four or eight bits (bitsandbytes, GPTQ, FP8), "
        "or from a quantised GGUF file, and stored as if it were the original.",
        repair="None undoes it: the original's values are lost. The rounding to those levels is taken for this side's, "
        "and explains the difference. Convert from the original checkpoint.",
        order=85,
        title="quantised before",
        together="lie on the levels of a quantised format, most often {actual}: it was made from a checkpoint "
        "quantised so, and not from the original",
        of_file="convert the {side} file from the original checkpoint: no export brings back what was rounded away",
    ),
)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The lattice that each accused float matrix lies on, where the other side's does not; or the believed one beside a
    quantised copy, which is no copy of it then. Or the errors of a quantiser beneath a coarser dtype."""
    for suspect, weight, original in fault.accused_matrices_and_originals():
        if weight.dtype not in FLOATS:
            yield from _beneath(suspect.role, suspect.model, weight, original)
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) > 2:
            continue
        if weight.dtype in FLOATS:
            own = [*_of(suspect.role, suspect.model, weight, other)]
            yield from own
            if not own and len(weight.dims) == 1 and other.dtype in FLOATS:
                yield from _of(other_role(suspect.role), suspect.other, other, weight)
        elif other.dtype in FLOATS and len(weight.dims) == 2:
            for proposal in _of(other_role(suspect.role), suspect.other, other, weight):
                mended = proposal.repair.applied(suspect.other).weights[weight.name]
                if _is_needed(mended, weight):
                    yield proposal


def _is_needed(on_levels: Weight, other: Weight) -> bool:
    """Whether two copies are off by both roundings: one of them alone is explained without the other."""
    rows = sampled(other)
    error = (on_levels.rows(rows) - other.rows(rows)).square().sum()
    explained = sum(weight.sigma_rows(rows).square().sum() for weight in (on_levels, other))
    return bool(error >= SMALLER**2 * explained)


def _of(role: Role, model: Model, weight: Weight, other: Weight) -> Iterator[Proposal]:
    lattice = lattice_of(weight, other) if len(weight.dims) == 2 else halves_of_vector(weight, other)
    if lattice is None:
        return
    edit, name = lattice
    made = "it was made from a quantised checkpoint, whose rounding explains the difference"
    said = f"lies on the lattice of {name}: {made}"
    yield replace(_requantised(role, model, weight, edit, name, said), moves=False)


def _beneath(role: Role, model: Model, weight: Weight, original: Weight) -> Iterator[Proposal]:
    """The quantiser whose errors a quantised copy has besides its own."""
    quantiser = quantiser_of(weight, original)
    if quantiser is None:
        return
    is_of_it = is_rounded_from(weight, quantised(original, quantiser))
    edit = Unrounded(original, quantiser, nearest=is_of_it)
    said = f"has the errors of {quantiser.name} beneath its own: it was made from a quantised checkpoint"
    yield _requantised(role, model, weight, edit, quantiser.name, said)


def _requantised(
    role: Role, model: Model, weight: Weight, edit: ValuesEdit, name: str, said: str
) -> Proposal:
    """A weight that was quantised in another way before it was stored as it is."""
    return Proposal(
        kind="value.requantised",
        role=role,
        repair=changed(model, weight, edit),
        tensor=weight.name,
        declared=weight.dtype,
        actual=name,
        message=f"{weight.name} is stored as {weight.dtype} and {said}",
        recommendation=f"convert {weight.entry.name} from the original checkpoint: no export brings back what was "
        "rounded away",
    )
