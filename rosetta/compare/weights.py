"""Two copies of one weight: equal bytes, apart by no more than their dtypes explain, or different.

Letters: R = rows, C = columns, G = weights that share one scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.results import WeightDiff
from rosetta.transformer import WEIGHTS_AT_ONCE
from rosetta.weight import FLOATS, Weight, same_bytes

# How far a block's error may lie above its predicted rms, measured on clean copies (docs/noise.md, "Constants"):
# where 99 % of a tensor's blocks lie below the first number its encoder was a plain one, and the second is the cut;
# else the encoder weighed some weights more than others, and the third is.
PLAIN_BELOW, PLAIN_CUT, ANY_CUT = 0, 1, 2
BLOCK_CUTS: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("F64", "F32", "F16", "BF16"), (1.60, 2.0, 4.0)),
    **dict.fromkeys(("Q8_0", "APR_Q8"), (1.25, 2.0, 3.0)),
    **dict.fromkeys(("Q5_1", "Q5_0", "Q4_1", "Q4_0", "APR_Q4"), (1.30, 2.0, 12.0)),
    "Q6_K": (1.25, 2.0, 16.0),
    "Q5_K": (1.10, 2.0, 10.0),
    "Q4_K": (1.10, 2.0, 12.0),
    "Q3_K": (1.40, 2.5, 10.0),
    "Q2_K": (1.30, 3.5, 20.0),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), (1.20, 2.0, 9.0)),
    **dict.fromkeys(("MXFP4", "NVFP4"), (1.60, 2.5, 2.5)),
    **dict.fromkeys(("IQ3_S", "IQ3_XXS"), (1.60, 2.5, 7.0)),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), (1.25, 2.0, 2.0)),
}
OTHER_CUTS = (1.60, 2.5, 16.0)  # IQ2, IQ1
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


def compare_weights(left: Weight, right: Weight) -> WeightPair:
    """Compare two canonical weights; of different dims they are `differing` without numbers."""
    if left.dims != right.dims or not (readable(left) and readable(right)):
        return WeightPair("differing")
    if same_bytes(left, right):
        return WeightPair("identical", identical_bytes=True)
    sums = _Sums(left, right)
    for a, b, variance, first_row in _decoded_blocks(left, right):
        sums.add(a, b, variance, first_row)
    return sums.result()


def readable(weight: Weight) -> bool:
    """Whether the weight's bytes can be decoded as its dtype and dims say."""
    return blocks.fits(weight.dtype, weight.entry.nbytes, weight.stored_dims)


def variance(left: Weight, right: Weight, start: int = 0, stop: int | None = None) -> Tensor:
    """Variance of the difference of two copies that their dtypes explain, float32 [rows, C]."""
    return left.sigma(start, stop).square() + right.sigma(start, stop).square()


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


def _decoded_blocks(left: Weight, right: Weight) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """(left, right, explained variance) by blocks of rows, each [rows, C], and the first row's number."""
    rows = left.dims[0] if len(left.dims) > 1 else 1
    if len(left.dims) < 2:
        yield left.values()[None], right.values()[None], variance(left, right)[None], 0
        return
    step = max(1, WEIGHTS_AT_ONCE // max(1, left.dims[-1]))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield left.values(start, stop), right.values(start, stop), variance(left, right, start, stop), start


class _Sums:
    """Accumulates a comparison over blocks of rows."""

    def __init__(self, left: Weight, right: Weight) -> None:
        self.left, self.right = left, right
        self.group = max(blocks.block_format(w.dtype).group for w in (left, right))
        self.squares = self.norm_l = self.norm_r = self.dot = self.expected = 0.0
        self.ratios: list[Tensor] = []
        self.equal_groups = self.groups = 0
        self.worst = (0.0, (0, 0))

    def add(self, a: Tensor, b: Tensor, explained: Tensor, first_row: int) -> None:
        gap = a - b
        self.squares += float(gap.square().sum(dtype=torch.float64))
        self.norm_l += float(a.square().sum(dtype=torch.float64))
        self.norm_r += float(b.square().sum(dtype=torch.float64))
        self.dot += float((a * b).sum(dtype=torch.float64))
        self.expected += float(explained.sum(dtype=torch.float64))
        error, allowed = (by_group(x, self.group) for x in (gap.square(), explained))  # [rows, groups]
        ratio = torch.where(error == 0, 0.0, (error / allowed).sqrt())  # x / 0 is inf: a fault
        ratio = ratio.nan_to_num(nan=math.inf, posinf=math.inf)
        self.equal_groups += int((error == 0).sum())
        self.groups += ratio.numel()
        self.ratios.append(ratio.flatten())
        position = int(ratio.argmax())
        if float(ratio.flatten()[position]) > self.worst[0]:
            row, group = divmod(position, ratio.shape[1])
            self.worst = (float(ratio.flatten()[position]), (first_row + row, group * self.group))

    def result(self) -> WeightPair:
        if self.squares == 0:
            return WeightPair("identical")
        edited = self.left.values_edits or self.right.values_edits  # a repair rounds every block anew
        quantised = self.left.dtype == self.right.dtype and self.left.dtype not in FLOATS and not edited
        some_only = quantised and self.equal_groups > SOME_BLOCKS_ONLY * self.groups
        ratios = torch.cat(self.ratios)
        common = float(ratios.kthvalue(max(1, math.ceil(COMMON * ratios.numel()))).values)
        whole = self.squares > FAULTY_TENSOR_RATIO**2 * self.expected
        faulty = some_only or whole or self.worst[0] > block_cut(self.left, self.right, common)
        norm = math.sqrt(self.norm_r)
        return WeightPair(
            state="differing" if faulty else "within_noise",
            explained=not some_only,
            worst_ratio=self.worst[0],
            worst_block=self.worst[1],
            rel_rmse=math.sqrt(self.squares) / norm if norm else math.inf,
            predicted=(0.0 if some_only else math.sqrt(self.expected)) / norm if norm else 0.0,
            cosine=self.dot / math.sqrt(self.norm_l * self.norm_r) if self.norm_l and self.norm_r else 0.0,
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
    return cuts[PLAIN_CUT] if common <= cuts[PLAIN_BELOW] else cuts[ANY_CUT]


def by_group(x: Tensor, group: int) -> Tensor:
    """Mean over groups of columns, [R, C] -> [R, ⌈C / G⌉]; the last group may be short."""
    rows, columns = x.shape
    whole = columns // group * group
    means = x[:, :whole].view(rows, -1, group).mean(-1)
    return means if whole == columns else torch.cat([means, x[:, whole:].mean(-1, keepdim=True)], dim=1)
