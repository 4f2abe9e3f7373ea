"""Data that starts some bytes too early or too late (`layout.shifted`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.compare.block_cuts import block_cut
from rosetta.compare.weights import compare_weights
from rosetta.diagnose.displaced import Displacement, displacement
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import for_all_names, of_weights, reading, sampled_blocks_of, taking
from rosetta.diagnose.region import ratios_of
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch, both
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.shifted",
        means="The data of a tensor, or of all behind one in a file, start some bytes too early or too late.",
        why="An offset is computed with another alignment or a header of another size, or from the start of the file "
        "where it counts from the start of the data. A tool that copies or edits the metadata drops general.alignment, "
        "or writes another one than it pads by: a reader then takes 32, and all tensors are shifted. Or a runtime "
        "counts learned positions from another number than 0.",
        repair="The bytes are read from where the tensor's values begin; what a shift has cut off at the end is taken "
        "from the reference. Write the data at the offset that the header gives, and general.alignment as they are "
        "padded.",
        whole=True,
        together="start some bytes beside their places, most often {actual} too far on: bytes came into the file, or "
        "were lost (a negative number), before the first of them, or its offsets are of another layout",
    ),
)

LARGEST_SHIFT = 256  # bytes; alignments are 32 and 64, headers that were miscounted a few words
LARGEST_BLOCKS = 8  # and a few whole blocks
SAMPLED_BYTES = 1 << 14
LEAST_VALUES = 32  # fewer may correlate by chance
LEAST_CORRELATION = 0.8
# Bytes; the latter where blocks are cut, of which there are many ways.
FARTHEST, FARTHEST_OF_PARTS = 1 << 18, 1 << 15
LEAST_ENERGY = 1e-3  # of the sample's
SCALE_BYTES = 4  # in front of the codes of a tensor that is one block (APR_Q8)
ALIGNMENT = 32  # of tensors in GGUF, and a divisor of .apr's


@dataclass(frozen=True)
class Moved:
    """Bytes moved forward by `shift` (the data began too late), back if negative; zeros fill the rest.

    Args:
        shift: in bytes.
        scale: that a tensor of one block begins with, where the shift has cut it off.
    """

    shift: int
    scale: float | None = None

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        moved = np.zeros_like(data)
        if self.shift >= 0:
            moved[: len(data) - self.shift] = data[self.shift :]
        else:
            moved[-self.shift :] = data[: self.shift]
        if self.scale is not None:
            moved[:SCALE_BYTES] = np.frombuffer(np.float32(self.scale).astype("<f4").tobytes(), np.uint8)
        return moved


def propose(fault: Fault) -> Iterator[Proposal]:
    """The shift by which each accused weight comes to resemble the other side's."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims:
            continue
        shift = best_shift(weight, other)
        if shift is None:
            continue
        beside = displacement(suspect, weight, shift)
        if beside is not None and (proposal := _all_moved(suspect, weight, beside)) is not None:
            yield proposal
        yield from _moved(suspect, weight, other, shift)


@dataclass(frozen=True)
class _Sample:
    """Some rows of the other side, and where the bytes that hold them should lie.

    Args:
        dtype: of the bytes.
        data: all bytes of the tensor.
        begin, nbytes: where the rows lie, and how many bytes they take.
        truth: the other side's values of them, float64 [n].
    """

    dtype: str
    data: NDArray[np.uint8]
    begin: int
    nbytes: int
    truth: torch.Tensor

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return blocks.block_format(self.dtype).type_size

    @property
    def width(self) -> int:
        """Weights of a block."""
        return blocks.block_format(self.dtype).block_size

    def likeness(self, shift: int) -> float:
        """How far what lies `shift` bytes on decodes to the sample: a correlation, of the whole blocks that the
        tensor has there; 0 where they are too few."""
        size, width, begin = self.size, self.width, self.begin + shift
        skipped = max(0, -(begin // size))  # blocks before the tensor begins
        used = min(self.nbytes // size, (len(self.data) - begin) // size) - skipped
        if used * width < LEAST_VALUES:
            return 0.0
        values = self.decoded(begin + skipped * size, used)
        return _correlation(values, self.truth[skipped * width : (skipped + used) * width])

    def middle(self) -> _Sample:
        """The middle third of the blocks: of a small tensor the sample is all there is, and would not fit elsewhere."""
        third = self.nbytes // self.size // 3
        truth = self.truth[third * self.width : -third * self.width or None]
        begin, nbytes = self.begin + third * self.size, self.nbytes - 2 * third * self.size
        return replace(self, begin=begin, nbytes=nbytes, truth=truth)

    def decoded(self, begin: int, count: int) -> torch.Tensor:
        """So many blocks from a byte on, float64."""
        raw = torch.from_numpy(self.data[begin : begin + count * self.size].copy())
        return blocks.decode(self.dtype, raw, (count * self.width,)).double()


def best_shift(weight: Weight, other: Weight) -> int | None:
    """The shift in bytes at which a sample of the stored bytes decodes to what the other side holds there."""
    sample = _sample(weight, other)
    if sample is None:
        return None
    if len(weight.dims) > 1 and sample.likeness(0) >= LEAST_CORRELATION:
        return None  # it lies in its place; of a vector, whose values are much the same, that says nothing
    best = max(((sample.likeness(shift), -order, shift) for order, shift in enumerate(_near(sample.size))))
    if best[0] >= LEAST_CORRELATION:
        return best[2]
    return None if sample.likeness(0) >= LEAST_CORRELATION else _far(sample.middle())


def _sample(weight: Weight, other: Weight) -> _Sample | None:
    """Rows from the middle, for the ends are what a shift cuts off; None where rows are not whole blocks, or where
    stored ones are of more than the weight."""
    # Of one block with a scale for all of it the codes are sampled: they say as much, and a shift loses the scale.
    dtype, header = (weight.dtype, 0) if blocks.block_format(weight.dtype).block_size else ("I8", SCALE_BYTES)
    block = blocks.block_format(dtype)
    turned, apart = weight.transposed, weight.part is not None or weight.order is not None
    stored_rows = weight.stored_dims[0] if weight.stored_dims else 1
    rows = stored_rows if turned else weight.dims[0]
    row_bytes = (weight.entry.nbytes - header) // max(1, stored_rows)
    whole = row_bytes * block.block_size == weight.count // max(1, rows) * block.type_size
    if not block.block_size or not whole or (turned and apart):
        return None
    count = max(1, min(rows, SAMPLED_BYTES // row_bytes))
    first = (rows - count) // 2
    if turned:
        truth = other.values()[:, first : first + count].T
    else:
        places = weight.order.index(rows) if weight.order is not None else np.arange(rows)
        canonical = np.argsort(places)[first : first + count]  # where the sampled stored rows go
        truth = other.rows(canonical.tolist())
    part_row = weight.part.first if weight.part else 0
    begin, data = header + (part_row + first) * row_bytes, weight.container.read(weight.entry.name)
    return _Sample(dtype, data, begin, count * row_bytes, truth.double().flatten())


def _near(size: int) -> list[int]:
    """Shifts to try one by one, the smallest first: every few bytes, and whole blocks."""
    blocks_away = [count * size for count in range(1, LARGEST_BLOCKS + 1)]
    ahead = sorted({*range(1, LARGEST_SHIFT + 1), *blocks_away})
    return [signed for shift in ahead for signed in (shift, -shift)]


def _far(sample: _Sample) -> int | None:
    """A larger shift, by whole blocks or a multiple of the alignment that files have: where the sample lies in what
    is decoded around its place, found by cross-correlation; None where it lies in its place."""
    size, width, count = sample.size, sample.width, sample.nbytes // sample.size
    for rest in range(0, size, math.gcd(size, ALIGNMENT)):  # shifts that no whole number of blocks makes
        reach = FARTHEST_OF_PARTS if rest else FARTHEST
        first = (sample.begin - rest) % size  # byte at which such blocks begin
        low = max(first, sample.begin - rest - reach // size * size)
        room = (min(len(sample.data), sample.begin + sample.nbytes + reach) - low) // size
        if room < count:
            continue
        values = sample.decoded(low, room).nan_to_num(0.0, 0.0, 0.0).float()
        place = int(_correlations(values, sample.truth.float())[::width].argmax())
        shift = low + place * size - sample.begin
        if sample.likeness(shift) >= LEAST_CORRELATION:
            return shift or None
    return None


def _correlations(values: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Correlation of `truth`, [n], with each run of `values`, [N]: [N − n + 1], by the convolution theorem."""
    values, truth = (x - x.mean() for x in (values, truth))
    valid, padded = len(values) - len(truth) + 1, 1 << (len(values) - 1).bit_length()
    transformed = torch.fft.rfft(values, padded) * torch.fft.rfft(truth, padded).conj()
    products: torch.Tensor = torch.fft.irfft(transformed, padded)[:valid]
    energy = torch.cat([values.new_zeros(1), values.square().cumsum(0)])
    least = LEAST_ENERGY * float(truth.square().sum())  # among zeros, rounding would be divided by nothing
    return products / (energy[len(truth) :] - energy[:valid]).clamp(min=least).sqrt()


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two vectors about their means (norms all look like one); 0 where one is not finite or constant."""
    if not bool(torch.isfinite(a).all()):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm else 0.0


def _all_moved(suspect: Suspect, weight: Weight, beside: Displacement) -> Proposal | None:
    """All tensors of a file from one on, read from where they lie; None where what lies outside of its data, and was
    lost with it, is too much to be a shift's."""
    path, (shift, others) = weight.container.path, (beside.container.shift, beside.count - 1)
    late, back = ("late", "earlier") if shift > 0 else ("early", "later")
    came, some = "came in" if shift > 0 else "went missing", _in_bytes(shift)
    patches, taken = beside.patches(suspect.model), None
    for cut in beside.cut(suspect.model):
        other = suspect.counterpart(cut)
        if other is None or cut.name not in patches:
            continue
        filled = _filled(suspect, replace(cut, container=beside.container), other, shift)
        if filled is None:
            return None
        taken = filled[1] or taken
        patches |= {name: both(patches[name], patch) for name, patch in filled[0].items()}
    return Proposal(
        kind="layout.shifted",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=weight.name,
        declared=0,
        actual=shift,
        message=f"{weight.name} starts {some} too {late}, as do {others} other tensors of {path}, from {beside.first} "
        f"on: {some} {came} before it",
        recommendation=f"write the data of {path} from {beside.first} on {some} {back}; a file that was copied or "
        "downloaded, fetch again",
        from_reference=taken,
    )


def _moved(suspect: Suspect, weight: Weight, other: Weight, shift: int) -> Iterator[Proposal]:
    edit, block = Moved(shift), blocks.block_format(weight.dtype)
    scale_lost = not block.block_size and shift < 0
    if scale_lost:
        edit = Moved(shift, _fitted_scale(replace(weight, bytes_edit=Moved(shift, 1.0)), other))
    patches = for_all_names(suspect.model, weight, reading(bytes_edit=edit))
    filled = _filled(suspect, replace(weight, bytes_edit=edit), other, shift)
    if filled is None:
        return
    patches |= {name: both(patches[name], patch) for name, patch in filled[0].items()}
    taken = filled[1]
    if scale_lost:  # which is one number for all of them
        taken = "1 of 1 scales" if taken is None else f"{taken}, and the scale of all"
    (late, back), some = (("late", "earlier") if shift > 0 else ("early", "later")), _in_bytes(shift)
    yield Proposal(
        kind="layout.shifted",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=weight.name,
        declared=0,
        actual=shift,
        message=f"{weight.name} starts {some} too {late}",
        recommendation=f"write the data of {weight.entry.name} at its offset, {some} {back}",
        from_reference=taken,
    )


def _filled(
    suspect: Suspect, moved: Weight, other: Weight, shift: int
) -> tuple[Mapping[str, Patch], str | None] | None:
    """What takes from the other side the values of a weight, read from where it lies, that the shift has cut off; and
    how many they are, None of none. Nothing where they are more than it may have cut off."""
    if compare_weights(moved, other).state != "differing":
        return {}, None
    cut = 0.0 if moved.dtype == other.dtype else block_cut(moved, other, 0.0)
    tail, block = ratios_of(moved, other).beyond(cut), blocks.block_format(moved.dtype)
    in_blocks = -(-abs(shift) // (block.type_size if block.block_size else 1)) + 1
    if not 0 < tail.count <= min(in_blocks * max(tail.size, block.block_size), moved.count // 2):
        return None
    filled = taking(suspect, moved, other, tail.mask, tail.rows).patches
    return filled, of_weights(tail.count, moved.count)


def _fitted_scale(codes: Weight, other: Weight) -> float:
    """The one scale of some codes that brings them closest to the other side's values."""
    sums = [(float((x * y).sum()), float(x.square().sum())) for x, y in sampled_blocks_of(codes, other)]
    products, squares = (sum(numbers) for numbers in zip(*sums, strict=True))
    return products / squares if squares else 0.0


def _in_bytes(shift: int) -> str:
    return "1 byte" if abs(shift) == 1 else f"{abs(shift)} bytes"
