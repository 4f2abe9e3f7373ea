"""Data that starts some bytes too early or too late (`layout.shifted`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.compare.weights import block_cut, compare_weights
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import for_all_names, of_weights, reading, taking
from rosetta.diagnose.region import ratios_of
from rosetta.model import both
from rosetta.weight import Weight

LARGEST_SHIFT = 256  # bytes; alignments are 32 and 64, headers that were miscounted a few words
LARGEST_BLOCKS = 8  # and a few whole blocks
SAMPLED_BYTES = 1 << 14
LEAST_VALUES = 32  # fewer may correlate by chance
LEAST_CORRELATION = 0.8


@dataclass(frozen=True)
class Moved:
    """Bytes moved forward by `shift` (the data began too late), back if negative; zeros fill the rest."""

    shift: int

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        moved = np.zeros_like(data)
        if self.shift >= 0:
            moved[: len(data) - self.shift] = data[self.shift :]
        else:
            moved[-self.shift :] = data[: self.shift]
        return moved


def propose(fault: Fault) -> Iterator[Proposal]:
    """The shift by which each accused weight comes to resemble the other side's."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims or weight.transposed:
            continue
        shift = best_shift(weight, other)
        if shift is not None:
            yield from _moved(suspect, weight, other, shift)


def best_shift(weight: Weight, other: Weight) -> int | None:
    """The shift in bytes at which a sample of the stored bytes decodes to what the other side holds there."""
    block = blocks.block_format(weight.dtype)
    size, width = block.type_size, block.block_size
    rows, columns = weight.dims[0], weight.count // max(1, weight.dims[0])
    row_bytes = weight.entry.nbytes // max(1, weight.stored_dims[0])
    if not width or row_bytes * width != columns * size:
        return None
    data = weight.container.read(weight.entry.name)
    count = max(1, min(rows, SAMPLED_BYTES // row_bytes))
    first = (rows - count) // 2  # from the middle: the ends are what a shift cuts off
    places = weight.order.index(rows) if weight.order is not None else np.arange(rows)
    canonical = np.argsort(places)[first : first + count]  # where the sampled stored rows go
    truth = other.rows(canonical.tolist()).double().flatten()
    part_row = sum(weight.part[1][: weight.part[0]]) if weight.part else 0
    begin, blocks_sampled = (part_row + first) * row_bytes, count * row_bytes // size
    best = (LEAST_CORRELATION, 0)
    for shift in _shifts(size):
        # Whole blocks whose shifted bytes lie in the tensor.
        skipped = max(0, -(-(-shift - begin) // size))
        used = min(blocks_sampled, (len(data) - begin - shift) // size) - skipped
        low = begin + skipped * size + shift
        if used < 1 or used * width < LEAST_VALUES or low < 0:
            continue
        sample = torch.from_numpy(data[low : low + used * size].copy())
        values = blocks.decode(weight.dtype, sample, (used * width,)).double()
        likeness = _correlation(values, truth[skipped * width : (skipped + used) * width])
        best = max(best, (likeness, shift))
    return best[1] or None


def _shifts(size: int) -> list[int]:
    """Shifts to try, the smallest first: every few bytes, and whole blocks."""
    blocks_away = [count * size for count in range(1, LARGEST_BLOCKS + 1)]
    ahead = sorted({*range(1, LARGEST_SHIFT + 1), *blocks_away})
    return [signed for shift in ahead for signed in (shift, -shift)]


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two vectors about their means (norms all look like one); 0 where one is not finite or constant."""
    if not bool(torch.isfinite(a).all()):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm else 0.0


def _moved(suspect: Suspect, weight: Weight, other: Weight, shift: int) -> Iterator[Proposal]:
    edit = Moved(shift)
    patches = for_all_names(suspect.model, weight, reading(bytes_edit=edit))
    moved, taken = replace(weight, bytes_edit=edit), None
    if compare_weights(moved, other).state == "differing":  # the tail that the shift cut off
        tail = ratios_of(moved, other).beyond(
            0.0 if weight.dtype == other.dtype else block_cut(weight, other, 0.0)
        )
        block = blocks.block_format(weight.dtype)
        lost = (-(-abs(shift) // block.type_size) + 1) * max(tail.size, block.block_size)
        if not 0 < tail.count <= min(lost, weight.count // 2):
            return
        filled = taking(suspect, moved, other, tail.mask, tail.rows).patches
        patches = {name: both(patch, filled[name]) for name, patch in patches.items()}
        taken = of_weights(tail.count, weight.count)
    late = "late" if shift > 0 else "early"
    yield Proposal(
        kind="layout.shifted",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=weight.name,
        declared=0,
        actual=shift,
        message=f"{weight.name} starts {abs(shift)} bytes too {late}",
        recommendation=f"write the data of {weight.entry.name} at its offset, {abs(shift)} bytes "
        + ("earlier" if shift > 0 else "later"),
        from_reference=taken,
    )
