"""What the errors of some rows tell of columns, of neighbours and of rank: see `structure`, which asks.

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy, z = e / σ,
u = w / σ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.blocks.fields import SQRT12
from rosetta.compare.spectrum import beyond_noise, largest_singular_value, rank_limit
from rosetta.compare.trait import COARSE, COARSER, CODEBOOKS, LEAST, ROW_DEVIATIONS, Trait
from rosetta.weight import Device, Weight, row_ranges
from rosetta.weight_cache import DecodedPair

# Of a matrix, what its columns and its rank are judged by: all of a small one; of a large one so many rows, and of
# these so many columns. A matrix of low rank is spread over all of it, and shows in a part of that size.
SAMPLED, SIDE = 1 << 20, 512
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
    coarse: Weight, fine: Weight, weighed: bool, kept: DecodedPair, device: Device
) -> list[Trait]:
    """What columns have, and the rank, by some of the rows: each error in units of its σ, so that no row, however
    large, speaks for all."""
    rows = _sampled_rows(coarse)
    parts = [(part, part_rows - part[0]) for part, part_rows in rows]
    w = torch.cat([kept.values(fine, *part, device)[local] for part, local in parts])
    e = torch.cat([kept.values(coarse, *part, device)[local] for part, local in parts]) - w
    coarser = COARSER if float(e.square().sum() / w.square().sum()) > COARSE else 1.0
    inverse = torch.cat([kept.variance(coarse, fine, *part, device)[local] for part, local in parts])
    inverse = inverse.clamp(min=1e-30).rsqrt_()
    z, u = e.mul_(inverse), w * inverse
    found = _of_columns(z, u, weighed, coarser)
    if coarse.dtype.startswith(COMPENSATING):
        return [*found, *_of_neighbours(z, u)]
    if found or coarse.name in TABLES or any(map(_depends_on_other, (coarse, fine))):
        return found
    if int((z == 0).sum()) > EQUAL * z.numel():
        return found
    group = min(blocks.group_of(weight.dtype) for weight in (coarse, fine))
    if len(z) < coarse.dims[0]:
        z, u, inverse = (_sampled_columns(x) for x in (z, u, inverse))
    noise = beyond_noise(z, u, inverse, group)
    if min(noise.shape) < LEAST:
        return found
    largest, limit = largest_singular_value(noise), rank_limit(*noise.shape)
    return [Trait("rank", largest, limit)] if largest > limit else []


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
    count = (
        total if weight.count <= SAMPLED else min(total, max(SIDE // 2, min(SIDE, SAMPLED // weight.dims[1])))
    )
    chosen = torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()
    found = [(part, chosen[(chosen >= part[0]) & (chosen < part[1])]) for part in row_ranges(weight)]
    return [(part, rows) for part, rows in found if len(rows)]


def _sampled_columns(x: Tensor) -> Tensor:
    """Columns in runs of whole superblocks from all over a matrix; all of them where it has no more than is needed."""
    if x.shape[1] < 2 * SIDE:
        return x
    runs = x.shape[1] // 256
    wanted = torch.linspace(0, runs - 1, SIDE // 256, dtype=torch.float64).round().long().tolist()
    return torch.cat([x[:, run * 256 : (run + 1) * 256] for run in wanted], dim=1)


def _of_columns(z: Tensor, u: Tensor, weighed: bool, coarser: float) -> list[Trait]:
    """What single columns have, and all of them.

    An error has nothing to do with its weight where the weight is more than a step: a smaller one may be rounded to
    nought, and is then off by all of itself.
    """
    wide = u.abs() >= SQRT12  # a step, in units of σ
    both = torch.where(wide, z * u, 0.0)
    size, error = (torch.where(wide, x.square(), 0.0).sum(0) for x in (u, z))
    product, enough = both.sum(0), wide.sum(0) >= LEAST
    coherent = torch.where(enough, product.square() / (size * error).clamp(min=1e-30), 0.0)
    mean_coherent = float(coherent.sum() / enough.sum().clamp(min=1))
    if coarser == 1.0 and int(enough.sum()) >= LEAST and mean_coherent > COHERENT_ALL:
        return [Trait("column_factors", mean_coherent, COHERENT_ALL)]
    found: list[Trait] = []
    if not weighed:
        deviations = product.abs() / both.square().sum(0).sqrt().clamp(min=1e-30)
        beyond = (coherent > COHERENT * coarser) & (deviations > ROW_DEVIATIONS)
        if bool(beyond.any()):
            found.append(Trait("column_factors", float(coherent[beyond].max()), COHERENT * coarser))
        mean = (z.sum(0) / (z.square().sum(0) * len(z)).sqrt().clamp(min=1e-30)).abs()
        worst = float(mean.max())
        if worst > min(0.95, COLUMN_MEAN * coarser) and worst * math.sqrt(len(z)) > ROW_DEVIATIONS:
            found.append(Trait("column_offsets", worst, min(0.95, COLUMN_MEAN * coarser)))
    return found


def _of_neighbours(e: Tensor, w: Tensor) -> list[Trait]:
    """What errors have in common with each other and with the weights in groups of neighbours, both in units of σ."""
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
