"""Blocks of salient channels: what an importance matrix of real activations does to a channel's neighbours.

A few channels of a trained model carry activations far above the others' (Lin et al. 2023, AWQ, calls them salient). An
encoder that weighs its errors by them fits the scale of each block in such a channel's columns to that one weight, and
clips or stretches its neighbours: they are off by up to fifty times their step, and the file is none the worse for it.
Damage looks different. It leaves no column of the block nearly right in row after row, and does not keep to some block
columns.

Letters: R = rows, C = columns, G = block columns, g = columns of one, n = block columns of salient channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.block_cuts import block_cut, common_ratio, plain_limit
from rosetta.compare.trait import CODEBOOKS
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Device, Weight, row_ranges
from rosetta.weight_cache import DecodedPair
from rosetta.workers import spread

# Measured on a trained model of 135 M weights in 19 dtypes, encoded by llama.cpp with the importance matrix of its own
# activations (docs/noise.md, "Channels that matter").
# Standard deviations by which the spared column's error must fall short: of its own prediction, of its neighbours'.
ITSELF, AMONG_OTHERS = 3.0, 4.0
# Of the mean share of a row's error, what half of the columns have at least where all suffer alike: a column of weights
# half as large as the others' that is stretched as they are has a quarter of their squared errors.
SHARED = 0.25
# Of the block columns of a matrix; 0.33 was seen (Q5_0, six channels of 576). No law bounds it: where all columns' own
# importances differ by more than e⁴, an encoder gives up blocks of most block columns, and each by less than the cut of
# blocks. It guards against faults of every block that leave some columns right, such as two columns exchanged in each.
MOST_COLUMNS = 0.4
# Over the rows that do not suffer, a column's squared error is that of rounding: evenly spread, its square has a
# variance of 4/5 about its mean. The standard deviations by which a salient one's mean over them falls short.
KEPT_RIGHT, ROUNDING_VARIANCE = 6.0, 0.8
# Of a block, in units of the finer copy's weights. A weight is given the level nearest to it, and nought is a level, or
# lies between two: whichever weight the scale was fitted to, none is off by more than itself. (IQ4's level nearest to
# nought is 1 / 127 of its last one, which is √32 / 127 of a block more.) Encoders fit the scale once more when all have
# their levels, which may put single weights farther off, blocks up to 0.93 (Q2_K, importances lognormal with σ = 3).
LARGEST_ERROR = 1.05
# The levels of codebooks lie apart from nought, and their scale is fitted to any of them: 2.4 was seen (IQ3_S). Packers
# of folders make good the errors of some weights by others.
LARGEST_ERROR_OTHERWISE = 3.0


@dataclass(frozen=True, eq=False)
class SalientBlocks:
    """Block columns that an encoder fitted to a salient channel.

    Args:
        columns: which, int64 [n].
        excess: for each block of them how many times its predicted variance its error is, float32 [R, n]; 1 where it
            is less, and where it is damage rather than neglect.
        size: columns of a block.
    """

    columns: Tensor
    excess: Tensor
    size: int

    def blocks(self, ratios: Tensor) -> Tensor:
        """The given up ones among all blocks, bool [R, G]."""
        found = torch.zeros_like(ratios, dtype=torch.bool)
        found[:, self.columns] = self.excess.to(ratios.device) > 1
        return found

    def given_up(self, total: int) -> Tensor:
        """Which of so many columns are of these blocks, bool [total]."""
        found = torch.zeros(total, dtype=torch.bool)
        for column in self.columns.tolist():
            found[column * self.size : (column + 1) * self.size] = True
        return found

    def widened(self, variance: Tensor, start: int) -> Tensor:
        """Variance of the rows from `start` on, [rows, C], with that of given up blocks as it was found."""
        excess = self.excess[start : start + len(variance)].to(variance.device)
        wide = variance.clone()
        for place, column in enumerate(self.columns.tolist()):
            wide[:, column * self.size : (column + 1) * self.size] *= excess[:, place : place + 1]
        return wide


def salient_blocks(
    left: Weight,
    right: Weight,
    ratios: Tensor,
    size: int,
    kept: DecodedPair,
    device: Device = "cpu",
    common: float | None = None,
) -> SalientBlocks | None:
    """The block columns that one of two copies of a matrix gave up; None where there are none.

    Args:
        left, right: the copies.
        ratios: rms error of each block over its predicted rms, [R, G].
        size: columns of a block.
        kept: rows that need not be decoded.
        device: where the others are.
        common: the ratio that 99 % of the blocks stay below, where it is known.
    """
    if all(weight.dtype in FLOATS for weight in (left, right)):
        return None  # each weight is rounded by itself
    columns = _suspected(left, right, ratios, common_ratio(ratios) if common is None else common)
    columns = columns[columns < left.dims[-1] // size]  # a short last block has too few columns to tell
    if not len(columns):
        return None
    finer = max(left, right, key=lambda weight: weight.entry.file_bytes)
    elevated = ratios[:, columns] > plain_limit(left, right)  # where the channel's neighbours suffer
    largest = _largest_error(left, right)

    def measured(rows: tuple[int, int]) -> tuple[Tensor, ...]:
        a, b = (_blocks(kept.values(weight, *rows, device), columns, size) for weight in (left, right))
        explained = kept.variance(left, right, *rows, device)
        error = (a - b).square_()  # [rows, n, g]
        size_a, size_b = a.square().sum(-1), b.square().sum(-1)  # [rows, n]
        own_size = size_a if finer is left else size_b
        if left.dtype == right.dtype:
            own_size = torch.maximum(size_a, size_b)
        bounded = error.sum(-1) <= largest**2 * own_size
        bounded &= (size_a > 0) & (size_b > 0)  # of a zeroed block nothing is left
        rounded_away = torch.zeros_like(bounded)
        for weight, sizes in ((left, size_a), (right, size_b)):
            if bool((sizes == 0).any()):
                values = kept.values(weight, *rows, device)
                rounded_away |= (sizes == 0) & _superblock_holds(values, weight, columns, size)
        steps = error / _blocks(explained, columns, size)
        others = steps * (~elevated[slice(*rows), :, None] & bounded[..., None])
        in_others = others.sum(0, dtype=torch.float64)
        steps = steps * (elevated[slice(*rows), :, None] & bounded[..., None])
        shares = steps / steps.sum(-1, keepdim=True)  # one row tells no more than another
        return (
            steps.sum(0, dtype=torch.float64),
            shares.nan_to_num().sum(0, dtype=torch.float64),
            bounded,
            in_others,
            rounded_away,
        )

    parts = spread(measured, row_ranges(left))
    steps, shares = (torch.stack([part[i] for part in parts]).sum(0) for i in (0, 1))  # [n, g]
    bounded, rounded_away = (torch.cat([part[i] for part in parts]) for i in (2, 4))
    bounded &= ratios[:, columns].isfinite()
    count = (elevated & bounded).sum(0).tolist()
    right_by_itself = steps / steps.new_tensor(count)[:, None] < _limits(count, ITSELF, steps)
    right_among_others = shares / shares.mean(-1, keepdim=True) < _limits(count, AMONG_OTHERS, steps)
    shared = shares.median(-1, keepdim=True).values > SHARED * shares.mean(-1, keepdim=True)
    # Importance is the same in every row: where few rows suffer, the others say which channel was kept right. The few
    # themselves do not: in one damaged block some weight is always the least wrong.
    of_others = torch.stack([part[3] for part in parts]).sum(0)
    quiet = (~elevated & bounded).sum(0).clamp(min=1)[:, None]
    limit = 1 - KEPT_RIGHT * (ROUNDING_VARIANCE / quiet.double()).sqrt()
    kept_right = of_others < limit * of_others.median(-1, keepdim=True).values
    salient = (right_among_others & (right_by_itself | shared)) | kept_right
    found = _with_their_superblocks(salient.any(-1), columns, size, left, right)
    if not bool(found.any()):
        return None
    columns, salient = columns[found], salient[found]
    wrong = _wrong_where_it_matters(left, right, finer, columns, salient, size, kept, device)
    allowed = (bounded | rounded_away)[:, found] & ~wrong.to(bounded)
    excess = torch.where(allowed, ratios[:, columns].square(), 1.0).clamp(min=1.0)
    return SalientBlocks(columns.cpu(), excess.cpu(), size)


def _largest_error(left: Weight, right: Weight) -> float:
    """How far blocks of two copies may be apart, in units of their weights: by what each encoder may leave."""

    def of_one(dtype: str) -> float:
        by_one = dtype not in CODEBOOKS and not of_scheme(dtype)
        return 0.0 if dtype in FLOATS else LARGEST_ERROR if by_one else LARGEST_ERROR_OTHERWISE

    return sum(of_one(weight.dtype) for weight in (left, right))


def _superblock_holds(values: Tensor, weight: Weight, columns: Tensor, size: int) -> Tensor:
    """Whether the superblocks of some block columns hold anything, in rows [rows, C]: bool [rows, n].

    A block's scale is rounded to steps of its superblock's. One that was fitted to a weight near nought is rounded to
    none, and the block to nought.
    """
    width = blocks.block_format(weight.dtype).block_size
    if width <= size:
        return torch.zeros(len(values), len(columns), dtype=torch.bool, device=values.device)
    superblocks = columns * size // width
    return (_blocks(values, superblocks, width) != 0).any(-1)


def _wrong_where_it_matters(
    left: Weight,
    right: Weight,
    finer: Weight,
    columns: Tensor,
    salient: Tensor,
    size: int,
    kept: DecodedPair,
    device: Device,
) -> Tensor:
    """Blocks that no encoder leaves that weighs errors so, bool [R, n].

    A plain encoding was one of its choices, and is off by half a step at most: whatever the importance of the salient
    weights, what it chose instead is not worse in all of them. A plain encoding's step is a part of the largest weight
    of its block, the same part in all blocks of a dtype; twice that half is allowed, for blocks with a minimum.

    Args:
        left, right, finer: the copies, and which of them is the finer one.
        columns: block columns, int64 [n].
        salient: their columns that an encoder had regard for, bool [n, g].
        size, kept, device: as for `salient_blocks`.
    """
    counts = salient.any(-1)  # a neighbour in a superblock has no salient column of its own

    def measured(rows: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        a, b = (kept.values(weight, *rows, device) for weight in (left, right))
        explained = kept.variance(left, right, *rows, device)
        whole = a.shape[1] // size * size
        x = (a if finer is left else b)[:, :whole].view(len(a), -1, size)
        largest = x.abs().amax(-1)
        part = (
            explained[:, :whole].view(len(a), -1, size).mean(-1) / largest.square().clamp(min=1e-30)
        ).sqrt()
        error = (_blocks(a, columns, size) - _blocks(b, columns, size)).square()
        least = error.masked_fill(~salient.to(error.device), math.inf).amin(-1)
        return least.cpu(), largest[:, columns.to(largest.device)].cpu(), part.flatten().cpu()

    parts = spread(measured, row_ranges(left))
    error, largest, part = (torch.cat([p[i] for p in parts]) for i in range(3))
    step = math.sqrt(12) * float(part.median())
    return (error > (step * largest).square()) & counts.cpu()


def _suspected(left: Weight, right: Weight, ratios: Tensor, usual: float) -> Tensor:
    """Block columns, int64 [n], with blocks that a plain encoder does not leave, or that none does where the former
    are many: of the tensor as a whole its own distribution tells."""
    worst = ratios.amax(0)
    for common in (0.0, usual):
        columns = (worst > block_cut(left, right, common)).nonzero().flatten()
        if len(columns) <= MOST_COLUMNS * ratios.shape[1]:
            return columns
    return columns[:0]


def _with_their_superblocks(found: Tensor, columns: Tensor, size: int, left: Weight, right: Weight) -> Tensor:
    """The found ones, and the others whose superblock has a found one: they share its scale."""
    width = max(blocks.block_format(weight.dtype).block_size for weight in (left, right))
    if width <= size:
        return found
    superblock = columns * size // width
    return torch.isin(superblock, superblock[found])


def _blocks(values: Tensor, columns: Tensor, size: int) -> Tensor:
    """Some block columns, all of them whole, of rows [rows, C]: [rows, n, g]."""
    whole = values.shape[1] // size * size
    return values[:, :whole].view(len(values), -1, size)[:, columns.to(values.device)]


def _limits(counts: list[int], deviations: float, like: Tensor) -> Tensor:
    """Below what part of its expectation the mean square of so many normal errors falls by chance hardly ever, [n, 1]:
    a quantile of χ² by Wilson and Hilferty (1931)."""
    spread_out = [2 / (9 * max(1, count)) for count in counts]
    limits = [max(0.0, 1 - x - deviations * math.sqrt(x)) ** 3 for x in spread_out]
    return like.new_tensor(limits)[:, None]
