"""Gate and up cut from their fused matrix along its columns, and turned: a converter takes it to be stored `[in, out]`
(`layout.fused_order`).

Letters: H = hidden, F = feed-forward width. What should be rows F … 2F of [2F, H] is columns H/2 … H of it, turned:
both matrices are [H/2, 2F].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rosetta.compare.weights import readable
from rosetta.diagnose.edits import Requantised
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import instead, zeros
from rosetta.dtypes import FLOATS
from rosetta.model import Patch
from rosetta.weight import Weight

GATE_OR_UP = re.compile(r"(blk\.\d+\.ffn_)(?:gate|up)((?:_\w+)?)(?:\.\d+)?(\.weight)$")

PARTS = ("gate", "up", "down")


@dataclass(frozen=True)
class Recut:
    """One half of the rows of a matrix, of which two weights hold the halves of the columns, turned.

    Args:
        halves: what is stored as gate and as up, [H/2, 2F] each.
        first: the matrix's row that is row 0 of this half.
    """

    halves: tuple[Weight, Weight]
    first: int

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return self._rows(lambda half: half.values(), values, start)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        blocks = any(half.dtype not in FLOATS for half in self.halves)  # which run along the wrong axis
        return self._rows(lambda half: half.sigma(), sigma, start) * (2**0.5 if blocks else 1.0)

    def _rows(self, of_half: Callable[[Weight], Tensor], like: Tensor, start: int) -> Tensor:
        rows = slice(self.first + start, self.first + start + len(like))
        return torch.cat([of_half(half)[:, rows].T for half in self.halves], 1).to(like.device)


def propose(fault: Fault) -> Iterator[Proposal]:
    """All gates and ups of the layer cut again, on the side where that gives what the other side has; and what leads
    back, where it is turned as well."""
    found = next((m for _, w in fault.accused_weights() if (m := GATE_OR_UP.match(w.name))), None)
    if found is None or fault.recorded:
        return
    stem, end = f"{found[1]}{{}}{found[2]}", found[3]
    accused = [s for s in (fault.subject, fault.reference) if _contradicted(s, stem, end)]
    # Of width H/2 either side's gate and up are the other's cut wrongly: what leads back tells whose is.
    for suspect in accused or [fault.subject]:
        yield from _cut_again(suspect, stem, end)


def _contradicted(suspect: Suspect, stem: str, end: str) -> bool:
    """Whether the file contradicts its own config over any of the matrices."""
    members = (weight for part in PARTS for weight in _members(suspect, stem.format(part), end))
    return any(suspect.model.mismatch(weight.name) is not None for weight in members)


def _cut_again(suspect: Suspect, stem: str, end: str) -> Iterator[Proposal]:
    gates, ups, downs = (_members(suspect, stem.format(part), end) for part in PARTS)
    patches: dict[str, Patch] = {}
    for own_gate, own_up in zip(gates, ups, strict=False):
        halves = _recut(suspect, own_gate, own_up)
        if halves is None:
            return
        patches |= {half.name: instead(half) for half in halves}
    if not patches or len(gates) != len(ups):
        return
    turned = [one for down in downs if (one := _turned(suspect, down)) is not None]
    patches |= {one.name: instead(one) for one in turned}
    gate, up, down = (stem.format(part) + end for part in PARTS)
    likewise = f"; {down} is turned likewise" if turned else ""
    converter = "llama.cpp's converter" if suspect.model.container.kind == "gguf" else "a converter"
    yield Proposal(
        kind="layout.fused_order",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=gate,
        partner=up,
        declared=list(gates[0].entry.dims),
        actual="halves of the columns of gate and up, turned",
        message=f"{gate} and {up} are the halves of the columns of one matrix of both, turned, not of its rows"
        f"{likewise}",
        recommendation=f"cut gate and up apart by rows and turn nothing: {converter} takes the fused matrix to be "
        "stored [in, out], as transformers 4 wrote those of experts, and transformers 5 writes [out, in]",
    )


def _members(suspect: Suspect, stem: str, end: str) -> list[Weight]:
    """The matrix of a stem; of a stack that of each expert, in order."""
    weights = suspect.model.weights
    if stem + end in weights:
        return [weights[stem + end]]
    found: list[Weight] = []
    while (weight := weights.get(f"{stem}.{len(found)}{end}")) is not None:
        found.append(weight)
    return found


def _recut(suspect: Suspect, gate: Weight, up: Weight) -> list[Weight] | None:
    """Gate and up as the rows of the matrix are; None where these are no halves of it, or not what the other side
    has."""
    wanted = suspect.model.expected_dims.get(gate.name)
    if wanted is None or wanted[1] % 2 or not (readable(gate) and readable(up)):
        return None
    width, hidden = wanted
    if gate.dims != (hidden // 2, 2 * width) or up.dims != gate.dims:
        return None
    found = []
    for which, weight in enumerate((gate, up)):
        other = suspect.other.weights.get(weight.name)
        read = replace(zeros(weight.name, wanted), values_edits=(Recut((gate, up), which * width),))
        if other is None or not looks_like(read, other):
            return None
        found.append(read)
    return found


def _turned(suspect: Suspect, weight: Weight) -> Weight | None:
    """The matrix turned, where it is what the other side has then and is not as it is stored."""
    other = suspect.other.weights.get(weight.name)
    if other is None or weight.part is not None or not readable(weight) or looks_like(weight, other):
        return None
    turned = replace(weight, transposed=not weight.transposed)
    if weight.dtype not in FLOATS:
        turned = replace(turned, values_edits=(*turned.values_edits, Requantised()))
    return turned if looks_like(turned, other) else None
