"""A matrix stored the other way round: `layout.transposed` (its values are turned) or `layout.dims_swapped`
(only its dims are)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.edits import Requantised
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import for_all_names, reading
from rosetta.dtypes import FLOATS
from rosetta.edits import ValuesEdit
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.transposed",
        means="The values of a matrix are stored the other way round, [in, out] for [out, in].",
        why="A GEMM wants the weight [in, out] and the exporter wrote it so; GPT-2's Conv1D stores it so and was not "
        "transposed, or twice. A square matrix shows it by its values alone.",
        repair="The matrix is read transposed. Transpose it on export.",
        whole=True,
        together="are stored [in, out]: its exporter transposes none, or all of them once too often",
    ),
    FindingKind(
        "layout.dims_swapped",
        means="The dims of a matrix are declared the other way round, while its bytes lie as they should.",
        why="GGUF lists dims with the fastest first; a converter that copies them, or reverses them once too often, "
        "changes the header and moves no data.",
        repair="The bytes are read with the dims reversed. Declare the dims in the container's own order.",
        whole=True,
    ),
)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other layouts that the bytes of each accused matrix can have."""
    for suspect, weight in fault.accused_weights():
        if len(weight.stored_dims) == 2:
            yield from _other_layouts(suspect, weight)


def _other_layouts(suspect: Suspect, weight: Weight) -> Iterator[Proposal]:
    whole = _demanded_dims(suspect, weight)
    if whole is None:
        return
    stored = _declared_dims(weight)
    # What the container's rule demands: [out, in], or [in, out] of a Conv1D or a file that says so.
    demanded = whole[::-1] if weight.transposed else whole
    layouts = {(whole, False), (whole[::-1], True)} - {(weight.stored_dims, weight.transposed)}
    own, name = weight.entry.name, weight.name
    axes, found = ("[in, out]", "[out, in]") if weight.transposed else ("[out, in]", "[in, out]")
    for dims, turned in sorted(layouts):
        as_demanded = turned == weight.transposed  # the bytes lie as demanded, so the dims alone are wrong
        if as_demanded and stored == demanded:
            continue  # a square matrix, or one that is read this way already
        done = f"declare {own} as {axes} = {list(demanded)}: its bytes already lie in that order"
        if not as_demanded:
            done = f"store {own} as {axes} = {list(demanded)}: transpose on export"
        what = "its dims are swapped" if as_demanded else "its values are turned"
        yield Proposal(
            kind="layout.dims_swapped" if as_demanded else "layout.transposed",
            role=suspect.role,
            repair=Repair(
                patches=for_all_names(
                    suspect.model,
                    weight,
                    reading(stored_dims=dims, transposed=turned, values_edits=_noise(weight, turned)),
                )
            ),
            tensor=name,
            declared=list(stored),
            actual=list(demanded) if stored != demanded else found,
            message=f"{name} needs transpose (GGML convention): {what}, {axes} = {list(demanded)} is expected, "
            f"{list(stored)} is stored",
            recommendation=done,
        )


def _noise(weight: Weight, turned: bool) -> tuple[ValuesEdit, ...]:
    """What a turned quantised matrix has gone through: its blocks run along the wrong axis."""
    again = turned != weight.transposed and weight.dtype not in FLOATS
    return (*weight.values_edits, Requantised()) if again else weight.values_edits


def _demanded_dims(suspect: Suspect, weight: Weight) -> tuple[int, ...] | None:
    """Row-major dims [out, in] of the whole tensor that the config demands; None where sizes do not fit at all."""
    expected = suspect.model.expected_dims.get(weight.name)
    if expected is None or len(expected) != 2:
        return None
    whole = (weight.part.total, expected[1]) if weight.part else expected
    if whole[0] == -1:  # a table of any number of rows
        whole = (weight.count // whole[1] if whole[1] else 0, whole[1])
    return whole if sorted(whole) == sorted(_declared_dims(weight)) else None


def _declared_dims(weight: Weight) -> tuple[int, ...]:
    """The dims that the file declares of the matrix: of an expert's, those behind how many experts there are."""
    return weight.entry.dims if weight.slot is None else weight.entry.dims[1:]
