"""What quantisers that round each weight by itself make of a matrix, and which of them a copy was made by.

Beneath a second quantisation, or beneath an adapter, no value lies on the first one's levels any more. But what it
rounded away is known where the original is at hand: a copy that was made from it holds just that, once.

Letters: R = rows, C = columns, n = blocks, g = weights of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.compare.kept_order import keeps_order
from rosetta.diagnose.edits import rounding
from rosetta.diagnose.lattices import FP4, NF4, rounded
from rosetta.diagnose.quantised_base import Addition
from rosetta.dtypes import FLOATS
from rosetta.weight import Weight, row_ranges

SAMPLED = 1 << 20  # weights of a matrix that tell the quantiser
CERTAIN = 6.0  # standard errors
CLOSE = 0.1  # of once: scales that were quantised themselves (nested NF4) have 0.99
AGAIN = 0.25  # of what is rounded away of other values: scales may have been rounded themselves
FITTED = 2  # times the share of fitted numbers: those are fitted to the largest errors
KNOWN = 0.03  # standard error at most: roundings of two schemes have something in common
LARGEST_FLOAT8 = 448.0  # E4M3


@dataclass(frozen=True)
class Quantiser:
    """A scheme of blocks with one scale each, which takes the nearest level of every weight.

    Args:
        name: as people call it.
        levels: values [n, g] -> what is stored of them.
        block: (rows, columns) of a block; no rows: runs of the flattened matrix; no columns: all of a row.
    """

    name: str
    levels: Callable[[Tensor], Tensor]
    block: tuple[int, int]

    def rounded(self, weight: Weight, start: int, stop: int) -> Tensor:
        """Rows start … stop of a matrix as the scheme stores them, [rows, C]; rows of a block are read as a whole."""
        total, columns = weight.dims
        high, wide = self.block
        whole = high or (wide // math.gcd(columns, wide) if wide else 1)  # rows that hold whole blocks
        first, last = start // whole * whole, min(-(-stop // whole) * whole, total)
        return self.of(weight.values(first, last))[start - first : stop - first]

    def of(self, values: Tensor) -> Tensor:
        """Rows that hold whole blocks as the scheme stores them, [rows, C]."""
        return self._in_squares(values) if self.block[0] else self._in_runs(values)

    def away(self, weight: Weight, start: int, stop: int) -> Tensor:
        """What the scheme rounds away of these rows."""
        return weight.values(start, stop) - self.rounded(weight, start, stop)

    def _in_runs(self, values: Tensor) -> Tensor:
        run = self.block[1] or values.shape[1]
        flat = values.flatten()
        blocks = torch.nn.functional.pad(flat, (0, -len(flat) % run)).view(-1, run)
        return self.levels(blocks).flatten()[: len(flat)].view_as(values)

    def _in_squares(self, values: Tensor) -> Tensor:
        high, wide = self.block
        rows, columns = values.shape
        padded = torch.nn.functional.pad(values, (0, -columns % wide, 0, -rows % high))
        cut = padded.view(len(padded) // high, high, -1, wide).transpose(1, 2)  # [R/h, C/w, h, w]
        found = self.levels(cut.reshape(-1, high * wide)).view_as(cut)
        return found.transpose(1, 2).reshape_as(padded)[:rows, :columns]


def _of_table(table: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """The nearest of some levels times the largest magnitude (bitsandbytes, quantize_4bit)."""

    def levels(blocks: Tensor) -> Tensor:
        entries = torch.tensor(sorted(table))
        largest = blocks.abs().amax(1, keepdim=True).clamp(min=1e-30)
        middles = (entries[1:] + entries[:-1]) / 2
        return entries[torch.bucketize(blocks * (1 / largest), middles)] * largest

    return levels


def _int8(blocks: Tensor) -> Tensor:
    """127 levels to either side (bitsandbytes, int8_vectorwise_quant)."""
    largest = blocks.abs().amax(1, keepdim=True).clamp(min=1e-30)
    return (blocks * (127 / largest)).round() * (largest / 127)


def _q8_0(blocks: Tensor) -> Tensor:
    """ggml-quants.c, quantize_row_q8_0_ref."""
    step = (blocks.abs().amax(1, keepdim=True) / 127).clamp(min=1e-30)
    steps = blocks * (1 / step)
    return steps.sign() * (steps.abs() + 0.5).floor() * step.half().float()


def _q4_0(blocks: Tensor) -> Tensor:
    """ggml-quants.c, quantize_row_q4_0_ref: the largest magnitude is level −8."""
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    step = largest / -8
    inverse = torch.where(step == 0, 0.0, 1 / step)
    return ((blocks * inverse + 8.5).floor().clamp(0, 15) - 8) * step.half().float()


def _float8(blocks: Tensor) -> Tensor:
    """E4M3, the largest magnitude at its largest number."""
    scale = (blocks.abs().amax(1, keepdim=True) / LARGEST_FLOAT8).clamp(min=1e-30)
    return (blocks / scale).to(torch.float8_e4m3fn).float() * scale


QUANTISERS = (
    Quantiser("NF4", _of_table(NF4), (0, 64)),
    Quantiser("FP4", _of_table((*FP4, *(-x for x in FP4))), (0, 64)),
    Quantiser("Q4_0", _q4_0, (0, 32)),
    Quantiser("eight bits, a scale for each row", _int8, (0, 0)),
    Quantiser("Q8_0", _q8_0, (0, 32)),
    Quantiser("FP8 (E4M3), blocks of 128 × 128", _float8, (128, 128)),
    Quantiser("FP8 (E4M3), a scale for each row", _float8, (0, 0)),
)


@dataclass(frozen=True)
class Quantised:
    """An edit that rounds a matrix as a quantiser does.

    Args:
        original: the matrix.
        by: the quantiser.
    """

    original: Weight
    by: Quantiser

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return self.by.rounded(self.original, start, start + len(values)).to(values.device)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


@dataclass(frozen=True)
class Stored:
    """An edit that rounds values as a float dtype does."""

    dtype: str

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return rounded(values, self.dtype)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma, rounding(values, self.dtype))


def quantised(original: Weight, by: Quantiser) -> Weight:
    """A matrix as a quantiser stores it."""
    return replace(original, values_edits=(*original.values_edits, Quantised(original, by)))


@dataclass(frozen=True)
class Unrounded:
    """Values with what a quantiser rounded away from their original put back.

    Args:
        original: what was quantised.
        by: which quantiser.
        addition: what was added to it then.
        nearest: whether each weight was rounded by itself to one of the levels about what had been made so.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    original: Weight
    by: Quantiser
    addition: Addition | None = None
    nearest: bool = False

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        away = self.by.away(self.original, start, start + len(values)).to(values.device)
        return values + away * _stretch(self.addition, values, start)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


def quantiser_of(
    weight: Weight, original: Weight, addition: Addition | None = None, fitted: float = 0.0
) -> Quantiser | None:
    """The quantiser whose rounding a copy holds, once; None where it is none of those that are known.

    Args:
        weight: the copy.
        original: what was quantised.
        addition: what was added to it then.
        fitted: the share of its numbers that the addition has from the copy: so much of what was rounded away is in it.

    What the copy's own dtype rounds away is not looked for.
    """
    own, ranges = own_quantiser(weight), row_ranges(original, SAMPLED)
    start, stop = ranges[len(ranges) // 2]
    base = weight.values(start, stop)
    if addition is not None:
        base = addition.taken_off(base, start)[1]
    lacking = (original.values(start, stop) - base).double()
    whole = float(lacking.square().sum())
    explained: list[tuple[float, Quantiser]] = []
    for quantiser in QUANTISERS:
        away = quantiser.away(original, start, stop).double()
        size = float(away.square().sum())
        if quantiser is own or not (size > 0 and math.isfinite(size) and math.isfinite(whole)):
            continue
        times = float((lacking * away).sum()) / size
        error = math.sqrt(max(whole - times * times * size, 0.0) / away.numel() / size)
        if error <= KNOWN and abs(times - 1) <= max(CERTAIN * error, CLOSE) + FITTED * fitted:
            explained.append((times * times * size, quantiser))
    return max(explained, key=lambda pair: pair[0])[1] if explained else None


def own_quantiser(weight: Weight) -> Quantiser | None:
    """The quantiser on whose levels a coarse copy lies as it is: that rounds next to nothing more away of it."""
    if weight.dtype in FLOATS:
        return None
    start, stop = row_ranges(weight, SAMPLED // 4)[0]
    values, sigma = weight.values(start, stop), weight.sigma(start, stop)
    beside = values + sigma * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    for quantiser in QUANTISERS:
        of_it, of_others = (float((quantiser.of(x) - x).norm()) for x in (values, beside))
        if of_it < AGAIN * of_others:
            return quantiser
    return None


def is_nearer(weight: Weight, one: Weight, other: Weight) -> bool:
    """Whether a copy is one of two matrices rather than the other, by half the distance."""
    start, stop = row_ranges(weight, SAMPLED)[0]
    values = weight.values(start, stop)
    near, far = (float((values - x.values(start, stop)).norm()) for x in (one, other))
    return near < far / 2


def is_rounded_from(weight: Weight, made: Weight) -> bool:
    """Whether each weight of a coarse copy was rounded by itself to a level about a matrix: its levels are in the order
    of that, or they are those that the copy's own quantiser takes."""
    if keeps_order((weight, made)):
        return True
    own = own_quantiser(weight)
    if own is None:
        return False
    start, stop = row_ranges(weight, SAMPLED)[0]
    values, most = weight.values(start, stop), AGAIN * float(weight.sigma(start, stop).norm())
    on_the_way = (replace(made, values_edits=(*made.values_edits, Stored(dtype))) for dtype in FLOATS)
    return any(float((quantised(x, own).values(start, stop) - values).norm()) < most for x in on_the_way)


def _stretch(addition: Addition | None, values: Tensor, start: int) -> Tensor | float:
    """By how much rows of a copy were stretched after they were quantised."""
    return 1.0 if addition is None else addition.taken_off(values, start)[2]
