"""The bytes of each value the other way round: written on, or for, a machine of the other byte order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.byte_order import swap_in_place
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, impossible, looks_like
from rosetta.diagnose.patches import for_all_names, reading
from rosetta.dtypes import FLOATS
from rosetta.edits import BytesEdit
from rosetta.finding_kind import FindingKind

KINDS = (
    FindingKind(
        "dtype.byte_order",
        means="The bytes of each value are the other way round.",
        why="A big-endian machine wrote the file, or a conversion of the byte order left a tensor out.",
        repair="The bytes of each value are swapped. Do so in the file.",
        whole=True,
        together="have the bytes of each value the other way round: it was written in another machine's byte order",
    ),
)


@dataclass(frozen=True)
class Swapped:
    """Bytes of values of a dtype in the other order; what is no whole value behind them stays."""

    dtype: str

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turned = data.copy()
        swap_in_place(self.dtype, turned[: len(data) // (size := FLOATS[self.dtype].type_size) * size])
        return turned


@dataclass(frozen=True)
class HalvesExchanged:
    """Values of four bytes whose two halves stand the other way round, each in its own order."""

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turned = data.copy()
        halves = turned[: len(data) // 4 * 4].view(np.uint16).reshape(-1, 2)
        halves[:] = halves[:, ::-1].copy()
        return turned


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each accused float tensor that resembles the other side's once its bytes, or halves, are swapped."""
    for suspect, weight in fault.accused_weights():
        if weight.dtype not in FLOATS or weight.bytes_edit is not None:
            continue
        ways: list[tuple[BytesEdit, str]] = [(Swapped(weight.dtype), "bytes")]
        if weight.dtype == "F32":
            ways.append((HalvesExchanged(), "two halves"))
        for edit, what in ways:
            patch = reading(bytes_edit=edit)
            repaired, other = patch(weight), suspect.counterpart(weight)
            if repaired is None:
                continue
            if impossible(repaired) if fault.recorded else other is None or not looks_like(repaired, other):
                continue
            order = "big-endian" if what == "bytes" else "its 16-bit halves exchanged"
            yield Proposal(
                kind="dtype.byte_order",
                role=suspect.role,
                repair=Repair(patches=for_all_names(suspect.model, weight, patch)),
                tensor=weight.name,
                declared="little-endian",
                actual=order,
                message=f"{weight.name} has the {what} of each {weight.dtype} value swapped: the other byte order "
                "(endianness)",
                recommendation=f"swap the {what} of each value of {weight.entry.name}: it was written for a machine of "
                "the other byte order",
            )
