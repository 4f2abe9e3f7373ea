"""Two copies of one weight: equal bytes, apart by no more than their dtypes explain, or different.

Letters: R = rows, C = columns, G = weights that share one scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.results import WeightDiff
from rosetta.weight import FLOATS, Device, Weight, row_ranges, same_bytes, same_stored_rows
from rosetta.weight_cache import Kept
from rosetta.workers import spread

# How far a block's error may lie above its predicted rms, measured on clean copies (docs/noise.md, "Constants"):
# where 99 % of a tensor's blocks lie below the first number its encoder was a plain one, and the second is the cut.
# An encoder that weighed some weights more than others has wider tails the higher that 99 % lies, and the cut grows
# with its power, up to the third.
PLAIN_BELOW, PLAIN_CUT, ANY_CUT = 0, 1, 2
TAIL_POWER = 6
BLOCK_CUTS: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("F64", "F32", "F16", "BF16"), (1.60, 2.0, 4.0)),
    **dict.fromkeys(("Q8_0", "APR_Q8"), (1.25, 2.0, 3.0)),
    "APR_Q4": (1.30, 2.0, 12.0),
    "Q4_0": (1.18, 2.0, 12.0),
    "Q5_0": (1.15, 2.0, 12.0),
    **dict.fromkeys(("Q5_1", "Q4_1"), (1.08, 2.0, 12.0)),
    "Q6_K": (1.14, 2.0, 16.0),
    "Q5_K": (0.98, 2.0, 10.0),
    "Q4_K": (1.00, 2.0, 12.0),
    "Q3_K": (1.30, 2.5, 10.0),
    "Q2_K": (1.17, 3.5, 20.0),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), (1.09, 2.0, 9.0)),
    **dict.fromkeys(("MXFP4", "NVFP4"), (1.60, 2.5, 2.5)),
    "IQ3_S": (1.15, 2.5, 7.0),
    "IQ3_XXS": (1.20, 2.5, 7.0),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), (1.25, 2.0, 2.0)),
}
OTHER_CUTS = (1.20, 2.5, 40.0)  # IQ2, IQ1
COMMON = 0.99
# A whole tensor whose rms error is this many times its prediction is a fault: clean ones stay below 1.3, and no
# rounding of a single weight on both sides reaches √6.
FAULTY_TENSOR_RATIO = 2.5
SOME_BLOCKS_ONLY = 0.5  # two quantised copies whose blocks are mostly equal come from one quantiser

State = Literal["identical", "within_noise", "differing"]


@dataclass(frozen=True)
class WeightPair:
    """What the comparison of two copies of a weight found.

    Args:
        state: `identical` bytes or values; `within_noise` of what the dtypes explain; `differing`.
        explained: whether the dtypes' rounding enters the predicted noise of the stages that use the weight.
        worst_ratio: largest rms error of a block over its predicted rms.
        worst_block: (row, first column) of that block.
        rel_rmse: rms of the difference over rms of the right copy.
        predicted: the same, as the dtypes predict it.
        cosine: of the two copies.
    """

    state: State
    identical_bytes: bool = False
    explained: bool = False
    worst_ratio: float = 0.0
    worst_block: tuple[int, int] | None = None
    rel_rmse: float | None = None
    predicted: float | None = None
    cosine: float | None = None


def compare_weights(
    left: Weight, right: Weight, device: Device = "cpu", kept: Kept | None = None
) -> WeightPair:
    """Compare two canonical weights; of different dims they are `differing` without numbers.

    Args:
        left, right: the copies.
        device: where they are decoded.
        kept: takes what was decoded, for the stage that is computed next.
    """
    if left.dims != right.dims or not (readable(left) and readable(right)):
        return WeightPair("differing")
    if same_bytes(left, right):
        return WeightPair("identical", identical_bytes=True)
    kept = Kept() if kept is None or len(left.dims) < 2 else kept  # a bias is no reason to forget its matrix
    kept.start(left, right)
    parts = spread(lambda rows: _measured(left, right, rows, device, kept), row_ranges(left))
    return _judged(left, right, parts)


def readable(weight: Weight) -> bool:
    """Whether the weight's bytes can be decoded as its dtype and dims say."""
    return blocks.fits(weight.dtype, weight.entry.nbytes, weight.stored_dims)


def variance(
    left: Weight, right: Weight, start: int = 0, stop: int | None = None, device: Device = "cpu"
) -> Tensor:
    """Variance of the difference of two copies that their dtypes explain, float32 [rows, C]; see `Weight.sigma`."""
    return left.sigma(start, stop, device).square() + right.sigma(start, stop, device).square()


def describe(
    name: str, left: Weight | None, right: Weight | None, pair: WeightPair | None, note: str
) -> WeightDiff:
    """The report's row for a weight that differs."""
    return WeightDiff(
        name=name,
        left_name=left.entry.name if left else None,
        right_name=right.entry.name if right else None,
        left_dtype=left.entry.dtype if left else None,
        right_dtype=right.entry.dtype if right else None,
        left_dims=list(left.entry.dims) if left else None,
        right_dims=list(right.entry.dims) if right else None,
        rel_rmse=pair.rel_rmse if pair else None,
        predicted=pair.predicted if pair else None,
        cosine=pair.cosine if pair else None,
        note=note,
    )


@dataclass(frozen=True)
class _Sums:
    """What one block of rows of two copies adds up to, and the ratio of each group of weights."""

    squares: float  # of the difference
    norm_left: float  # squared
    norm_right: float
    expected: float  # variance that the dtypes explain
    ratios: Tensor
    equal_groups: int
    worst: tuple[float, tuple[int, int]]


def _measured(left: Weight, right: Weight, rows: tuple[int, int], device: Device, kept: Kept) -> _Sums:
    """Compare some rows of two copies; a vector counts as one row."""
    a, explained = left.values(*rows, device), left.sigma(*rows, device).square_()
    if same_stored_rows(left, right, *rows):
        b, explained = a, explained.mul_(2)
    else:
        b = right.values(*rows, device)
        explained += right.sigma(*rows, device).square_()
    kept.put(rows, a, b, explained)
    if a.dim() < 2:
        a, b, explained = a[None], b[None], explained[None]
    group, squares = max(blocks.group_of(w.dtype) for w in (left, right)), (a - b).square_()
    error, allowed = by_group(squares, group), by_group(explained, group)
    ratio = _ratio(error, allowed)
    position = int(ratio.argmax())
    row, column = divmod(position, ratio.shape[1])
    sizes = torch.full((error.shape[1],), group, dtype=torch.float64)
    sizes[-1] -= len(sizes) * group - a.shape[1]  # the last group may be short
    return _Sums(
        squares=_total(error, sizes),
        norm_left=_norm_squared(a),
        norm_right=_norm_squared(b),
        expected=_total(allowed, sizes),
        ratios=ratio.flatten(),
        equal_groups=int((ratio == 0).sum()),
        worst=(float(ratio.flatten()[position]), (rows[0] + row if left.dims[1:] else 0, column * group)),
    )


def _total(means: Tensor, sizes: Tensor) -> float:
    """What groups of these sizes, [G], add up to whose means are [R, G]."""
    return float(means.sum(0, dtype=torch.float64).cpu() @ sizes)


def _norm_squared(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dim=-1).square().sum(dtype=torch.float64))


def _judged(left: Weight, right: Weight, parts: Sequence[_Sums]) -> WeightPair:
    """What all blocks of rows together say."""
    squares, expected = sum(p.squares for p in parts), sum(p.expected for p in parts)
    if squares == 0:
        return WeightPair("identical")
    edited = left.repaired or right.repaired  # what went wrong may have quantised every block anew
    quantised = left.dtype == right.dtype and left.dtype not in FLOATS and not edited
    ratios = torch.cat([p.ratios for p in parts])
    some_only = quantised and sum(p.equal_groups for p in parts) > SOME_BLOCKS_ONLY * ratios.numel()
    common = float(ratios.kthvalue(max(1, math.ceil(COMMON * ratios.numel()))).values)
    whole = squares > FAULTY_TENSOR_RATIO**2 * expected
    worst, place = max(p.worst for p in parts)
    size_left, size_right = sum(p.norm_left for p in parts), sum(p.norm_right for p in parts)
    norm_left, norm_right = math.sqrt(size_left), math.sqrt(size_right)
    dot = (size_left + size_right - squares) / 2  # ‖a−b‖² = ‖a‖² + ‖b‖² − 2a·b
    return WeightPair(
        state="differing" if some_only or whole or worst > block_cut(left, right, common) else "within_noise",
        explained=not some_only,
        worst_ratio=worst,
        worst_block=place,
        rel_rmse=math.sqrt(squares) / norm_right if norm_right else math.inf,
        predicted=(0.0 if some_only else math.sqrt(expected)) / norm_right if norm_right else 0.0,
        cosine=dot / (norm_left * norm_right) if norm_left and norm_right else 0.0,
    )


def block_cut(left: Weight, right: Weight, common: float) -> float:
    """The block ratio beyond which one of two copies is faulty.

    Args:
        left, right: the copies; the coarser dtype decides.
        common: the ratio that 99 % of their blocks stay below.
    """
    coarser = min(
        (left, right), key=lambda weight: weight.entry.nbytes / max(1, math.prod(weight.entry.dims))
    )
    cuts = BLOCK_CUTS.get(coarser.dtype, OTHER_CUTS)
    spread_out = max(1.0, common / cuts[PLAIN_BELOW])
    return min(cuts[ANY_CUT], cuts[PLAIN_CUT] * spread_out**TAIL_POWER)


def group_ratios(gap: Tensor, explained: Tensor, group: int) -> Tensor:
    """Rms error of each group over its predicted rms, [rows, groups]; infinite where nothing explains it.

    Args:
        gap: difference of the two copies, [rows, C] or [C].
        explained: its variance that the dtypes explain, of the same shape.
        group: values of a group.
    """
    rows = (1, -1) if gap.dim() < 2 else gap.shape
    return _ratio(by_group(gap.square().view(rows), group), by_group(explained.view(rows), group))


def _ratio(error: Tensor, allowed: Tensor) -> Tensor:
    ratio = torch.where(error == 0, 0.0, (error / allowed).sqrt())  # x / 0 is inf: a fault
    return ratio.nan_to_num(nan=math.inf, posinf=math.inf)


def by_group(x: Tensor, group: int) -> Tensor:
    """Mean over groups of columns, [R, C] -> [R, ⌈C / G⌉]; the last group may be short."""
    rows, columns = x.shape
    whole = columns // group * group
    means = x[:, :whole].view(rows, -1, group).mean(-1)
    return means if whole == columns else torch.cat([means, x[:, whole:].mean(-1, keepdim=True)], dim=1)
