"""What the errors of some rows tell of columns, of neighbours and of rank: see `structure`, which asks.

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy, z = e / σ,
u = w / σ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.blocks.fields import SQRT12
from rosetta.compare.spectrum import beyond_noise, largest_singular_value, rank_limit
from rosetta.compare.trait import COARSE, COARSER, CODEBOOKS, LEAST, ROW_DEVIATIONS, Trait
from rosetta.weight import Device, Weight, row_ranges
from rosetta.weight_cache import DecodedPair
from rosetta.workers import spread

# Of a matrix, what its columns and its rank are judged by: all of a small one. Of a large one its columns by so many
# rows, half as many where they are long; its rank by so many rows and columns: a matrix of low rank is spread over all
# of it, and shows in a part of that size.
SAMPLED, SIDE = 1 << 20, 512
PIECE = 1 << 18  # values that are looked at together
COHERENT = 0.5  # of a column's squared error, what its own multiple explains: a clean one has up to 0.16
COHERENT_ALL = 0.2  # of all columns' squared errors, in four bits and more; 0.09 was seen
# Mean of a column's errors in units of their rms.
COLUMN_MEAN = 0.7
# Of neighbours in a run sorted by size, how many are equal: of 32 levels a block (Q5_0) a fifth, of 64 (Q6_K) a tenth,
# of BF16's own 2 %. Of equal weights, how many an encoder gives equal codes: all, as it rounds each by itself.
RUN, LEVELS, ALIKE = 16, 0.08, 0.995
# Rows of a table may be equal, of tokens that no text had, and so are their errors: rank says nothing there.
TABLES = ("token_embd.weight", "output.weight", "position_embd.weight")
EQUAL = 0.05  # of the values: what is equal on both sides is no sample of errors (a region taken by a repair)
# GPTQ (Frantar et al. 2022) moves each weight by the errors of those before it: no nearest code is what counts, but
# what the inputs make of all errors together. These schemes' errors are larger than their steps say, by 1.5 to 3 times
# as measured, and hang together between columns; within a group of neighbours they still have neither a common sign nor
# anything of the weights in them: root mean square over all groups, of what chance has, 0.91 to 1.13.
COMPENSATING = ("GPTQ:", "CT:INT")
NEIGHBOURS, NEIGHBOURS_ALIKE = 32, 1.5


def traits_of_sample(
    coarse: Weight, fine: Weight, weighed: bool, distance: float, kept: DecodedPair, device: Device
) -> list[Trait]:
    """What columns have, and the rank, by some of the rows: each error in units of its σ, so that no row, however
    large, speaks for all.

    Args:
        coarse, fine, weighed, kept, device: as for `traits`.
        distance: D = Σ e² / Σ w².
    """
    pair, large = (coarse, fine), coarse.count > SAMPLED
    rows = max(SIDE // 2, min(SIDE, SAMPLED // coarse.dims[1])) if large else coarse.dims[0]
    pieces = _pieces(pair, min(rows, coarse.dims[0]), kept, device)
    if coarse.dtype.startswith(COMPENSATING):
        return [*_of_columns(pieces, weighed, distance), *_of_neighbours(pieces)]
    by_columns = partial(_of_columns, pieces, weighed, distance)
    if coarse.name in TABLES or any(map(_depends_on_other, pair)):
        return by_columns()
    by_rank = partial(_of_rank, pair, kept, device)
    found, rank = spread(lambda test: test(), [by_columns, by_rank])
    return found or rank


@dataclass(frozen=True)
class _Piece:
    """Some rows of two copies, which are decoded together with those between them, or were.

    Args:
        coarse, fine: the copies.
        part: rows that are decoded, (first, after the last).
        rows: the chosen ones, counted from the first.
        kept, device: as for `traits`.
    """

    coarse: Weight
    fine: Weight
    part: tuple[int, int]
    rows: Tensor
    kept: DecodedPair
    device: Device

    def copies(self, columns: slice = slice(None)) -> list[Tensor]:
        """The finer copy, the coarser one and the variance of their difference in some columns, [rows, columns], as
        memory of their own."""
        found = [self.kept.values(weight, *self.part, self.device) for weight in (self.fine, self.coarse)]
        found.append(self.kept.variance(self.coarse, self.fine, *self.part, self.device))
        rows = self.rows.to(found[0].device)
        return [x[:, columns].index_select(0, rows) for x in found]


def _in_sigmas(fine: Tensor, coarse: Tensor, explained: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z, u and 1 / σ, in the memory of what they are made of."""
    inverse = explained.clamp_(min=1e-30).rsqrt_()
    return coarse.sub_(fine).mul_(inverse), fine.mul_(inverse), inverse


def _pieces(pair: tuple[Weight, Weight], count: int, kept: DecodedPair, device: Device) -> list[_Piece]:
    """So many rows from all over a matrix. Of what is not at hand no others are decoded, where that may be."""
    total, columns = pair[0].dims
    chosen = torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()
    at_once = max(1, PIECE // columns)
    ranges = row_ranges(pair[0])
    if not kept.holds(ranges[0]):
        parts = [rows.tolist() for rows in torch.split(chosen, at_once)]
        some = [tuple(weight.only(rows) for weight in pair) for rows in parts]
        if all(a is not pair[0] and b is not pair[1] for a, b in some):
            return [_Piece(a, b, (0, a.dims[0]), torch.arange(a.dims[0]), kept, device) for a, b in some]
    found = []
    for part in ranges:
        inside = chosen[(chosen >= part[0]) & (chosen < part[1])] - part[0]
        found += [
            _Piece(*pair, part, rows, kept, device) for rows in torch.split(inside, at_once) if len(rows)
        ]
    return found


def _of_rank(pair: tuple[Weight, Weight], kept: DecodedPair, device: Device) -> list[Trait]:
    """Whether the errors of a part of the matrix, [rows, columns] from all over it, have a part of low rank."""
    total, columns = pair[0].dims
    runs = [slice(None)]
    if pair[0].count > SAMPLED:
        total, runs = min(total, SIDE), _runs(columns)
    pieces = _pieces(pair, total, kept, device)
    parts = [list(zip(*(piece.copies(run) for piece in pieces), strict=True)) for run in runs]
    z, u, inverse = _in_sigmas(
        *(torch.cat([torch.cat(of_run[i]) for of_run in parts], dim=1) for i in range(3))
    )
    if z.numel() - int(z.count_nonzero()) > EQUAL * z.numel():
        return []
    noise = beyond_noise(z, u, inverse, min(blocks.group_of(weight.dtype) for weight in pair))
    if min(noise.shape) < LEAST:
        return []
    largest, limit = largest_singular_value(noise), rank_limit(*noise.shape)
    return [Trait("rank", largest, limit)] if largest > limit else []


def _runs(columns: int) -> list[slice]:
    """Whole superblocks of columns from all over a matrix; all columns where it has no more than is needed."""
    if columns < 2 * SIDE:
        return [slice(None)]
    runs = columns // 256
    wanted = torch.linspace(0, runs - 1, SIDE // 256, dtype=torch.float64).round().long().tolist()
    return [slice(run * 256, (run + 1) * 256) for run in wanted]


@dataclass(frozen=True)
class _ColumnSums:
    """Sums over so many rows of each column, float32 [C].

    An error has nothing to do with its weight where the weight is more than a step: a smaller one may be rounded to
    nought, and is then off by all of itself. Sums that have to do with both are of the wide ones.

    Args:
        rows: how many there are.
        wide: of these, how many have a weight of more than a step.
        size, error, product: Σ u², Σ z² and Σ z·u of the wide ones.
        mean, all_errors: Σ z and Σ z² of all.
    """

    rows: int
    wide: Tensor
    size: Tensor
    error: Tensor
    product: Tensor
    mean: Tensor
    all_errors: Tensor

    @staticmethod
    def of(piece: _Piece) -> _ColumnSums:
        z, u, _ = _in_sigmas(*piece.copies())
        wide, squared = _wide(u), z * z
        u *= wide
        product = (z * u).sum(0)
        size = u.square_().sum(0)
        return _ColumnSums(
            rows=len(z),
            wide=wide.sum(0),
            size=size,
            error=wide.mul_(squared).sum(0),
            product=product,
            mean=z.sum(0),
            all_errors=squared.sum(0),
        )

    @staticmethod
    def joined(parts: Sequence[_ColumnSums]) -> _ColumnSums:
        names = [name for name in _ColumnSums.__dataclass_fields__ if name != "rows"]
        sums = (torch.stack([getattr(part, name) for part in parts]).sum(0) for name in names)
        return _ColumnSums(sum(part.rows for part in parts), *sums)


def _wide(u: Tensor) -> Tensor:
    """1 where a weight is more than a step, which is in units of σ, else 0."""
    return u.abs().ge_(SQRT12)


def _of_columns(pieces: Sequence[_Piece], weighed: bool, distance: float) -> list[Trait]:
    """What single columns have, and all of them."""
    coarser = COARSER if distance > COARSE else 1.0
    sums = _ColumnSums.joined(spread(_ColumnSums.of, pieces))
    enough = sums.wide >= LEAST
    coherent = torch.where(enough, sums.product.square() / (sums.size * sums.error).clamp(min=1e-30), 0.0)
    mean_coherent = float(coherent.sum() / enough.sum().clamp(min=1))
    if coarser == 1.0 and int(enough.sum()) >= LEAST and mean_coherent > COHERENT_ALL:
        return [Trait("column_factors", mean_coherent, COHERENT_ALL)]
    found: list[Trait] = []
    if not weighed:
        beyond = (coherent > COHERENT * coarser).nonzero().flatten()
        beyond = beyond[sums.product[beyond].abs() > ROW_DEVIATIONS * _deviation(pieces, beyond)]
        if len(beyond):
            found.append(Trait("column_factors", float(coherent[beyond].max()), COHERENT * coarser))
        mean = (sums.mean / (sums.all_errors * sums.rows).sqrt().clamp(min=1e-30)).abs()
        worst = float(mean.max())
        if worst > min(0.95, COLUMN_MEAN * coarser) and worst * math.sqrt(sums.rows) > ROW_DEVIATIONS:
            found.append(Trait("column_offsets", worst, min(0.95, COLUMN_MEAN * coarser)))
    return found


def _deviation(pieces: Sequence[_Piece], columns: Tensor) -> Tensor:
    """The standard deviation of Σ z·u of the wide ones in some columns."""
    total = torch.zeros(len(columns), device=columns.device)
    if len(columns):
        for piece in pieces:
            z, u, _ = _in_sigmas(*(x[:, columns] for x in piece.copies()))
            total += (z * u * _wide(u)).square_().sum(0)
    return total.sqrt().clamp(min=1e-30)


def follows_levels(coarse: Weight, fine: Weight, kept: DecodedPair, device: Device) -> bool:
    """Whether the finer copy has few values a block, and the coarser one is a function of them: it was encoded from
    what is quantised already, and its errors are not independent of the weights."""
    equal = alike = total = 0
    for part, rows in _sampled_rows(coarse):
        few = rows[:: max(1, len(rows) // LEAST)] - part[0]
        w, c = (kept.values(weight, *part, device)[few] for weight in (fine, coarse))
        columns = w.shape[1] // RUN * RUN
        w, c = (x[:, :columns].reshape(-1, RUN) for x in (w, c))
        w, order = w.sort(dim=1)
        c = c.gather(1, order)
        same = (w[:, 1:] == w[:, :-1]) & (w[:, 1:] != 0)  # zeros may be pruned weights
        equal, total = equal + int(same.sum()), total + same.numel()
        alike += int((same & (c[:, 1:] == c[:, :-1])).sum())
    by_vectors = coarse.dtype in CODEBOOKS  # which encode eight weights at once, and equal ones otherwise
    return equal > LEVELS * total and (by_vectors or alike >= ALIKE * equal)


def _sampled_rows(weight: Weight) -> list[tuple[tuple[int, int], Tensor]]:
    """Some of the rows from all over a matrix, by the ranges that they are decoded in; all rows of a small one."""
    total = weight.dims[0]
    count = total if weight.count <= SAMPLED else min(total, SIDE)
    chosen = torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()
    found = [(part, chosen[(chosen >= part[0]) & (chosen < part[1])]) for part in row_ranges(weight)]
    return [(part, rows) for part, rows in found if len(rows)]


def _of_neighbours(pieces: Sequence[_Piece]) -> list[Trait]:
    """What errors have in common with each other and with the weights in groups of neighbours, both in units of σ."""
    e, w, _ = _in_sigmas(*map(torch.cat, zip(*(piece.copies() for piece in pieces), strict=True)))
    columns = e.shape[1] // NEIGHBOURS * NEIGHBOURS
    e, w = (x[:, :columns].reshape(-1, NEIGHBOURS) for x in (e, w))
    size = e.norm(dim=1)
    used = (size > 0) & (w.norm(dim=1) > 0)
    if int(used.sum()) < LEAST:
        return []
    e, w, size = e[used], w[used], size[used]
    signs = float((e.sum(1) / size).square().mean().sqrt())
    likeness = float(((e * w).sum(1) * NEIGHBOURS**0.5 / (size * w.norm(dim=1))).square().mean().sqrt())
    found = [Trait("group_offsets", signs, NEIGHBOURS_ALIKE)] if signs > NEIGHBOURS_ALIKE else []
    if likeness > NEIGHBOURS_ALIKE:
        found.append(Trait("group_factors", likeness, NEIGHBOURS_ALIKE))
    return found


def _depends_on_other(weight: Weight) -> bool:
    """Whether a repair fitted numbers to the other copy, many of them: the errors left are not independent."""
    return any(getattr(edit, "fitted", False) for edit in weight.values_edits)
