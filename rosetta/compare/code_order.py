"""Blocks whose codes do not follow the order of the weights: damage, however an encoder weighed its errors.

Whatever an encoder has regard for, what it chooses of a block is a scale and a minimum; each weight then gets the level
next to it. So of two weights of a block the larger one never has the smaller code, and putting the codes of a block
into the order of its weights changes nothing. Codes of other weights lose most of their error by that.

Letters: R = rows, G = blocks of a row, g = weights that share a scale, n = suspected blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rosetta.blocks import group_of
from rosetta.blocks.fields import SQRT12
from rosetta.compare.block_cuts import block_cut
from rosetta.compare.salient_channels import SalientBlocks, salient_blocks
from rosetta.compare.trait import CODEBOOKS
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Device, Weight, row_ranges
from rosetta.weight_cache import DecodedPair
from rosetta.workers import spread

BEYOND = 1.001  # times the widest cut


def judged_ratios(
    left: Weight, right: Weight, ratios: Tensor, size: int, kept: DecodedPair, device: Device = "cpu"
) -> tuple[Tensor, SalientBlocks | None]:
    """The ratios of the blocks of two copies with 0 where an encoder gave a block up, and beyond every cut where its
    codes are of other weights; and what it gave up. The arguments are `out_of_order`'s."""
    salient = salient_blocks(left, right, ratios, size, kept, device)
    disordered = out_of_order(left, right, ratios, size, kept, device)
    judged = ratios if salient is None else ratios.masked_fill(salient.blocks(ratios), 0.0)
    if disordered is not None:
        beyond = ratios.clamp(min=BEYOND * block_cut(left, right, math.inf))
        judged = torch.where(disordered.to(ratios.device), beyond, judged)
    return judged, salient


def out_of_order(
    left: Weight, right: Weight, ratios: Tensor, size: int, kept: DecodedPair, device: Device = "cpu"
) -> Tensor | None:
    """The blocks whose codes are of other weights, bool [R, G]; None where there are none.

    What was encoded may have been a rounded copy itself, each weight of it off by δ. Codes in the order of that are out
    of order beside ours by 2·Σ δ·(sorted − stored) at most (all in the order of ours), and δ is half a step of the
    coarser copy at most where it was rounded no more coarsely than that.

    Args:
        left, right: the copies, matrices.
        ratios: rms error of each block over its predicted rms, [R, G]; only those beyond a plain encoder's cut are
            looked at.
        size: weights of a block.
        kept: rows that need not be decoded.
        device: where the others are.
    """
    coarse, fine = sorted((left, right), key=_bytes_a_weight)
    if len(left.dims) != 2 or not _in_order(coarse, fine) or size % group_of(coarse.dtype):
        return None
    own = group_of(coarse.dtype)
    suspected = ratios > block_cut(left, right, 0.0)
    suspected[:, left.dims[1] // size :] = False  # a short last block
    if not bool(suspected.any()):
        return None

    def found(rows: tuple[int, int]) -> Tensor:
        here = suspected[slice(*rows)]
        if not bool(here.any()):
            return here
        whole = left.dims[1] // size
        chosen = here[:, :whole].to(kept.values(coarse, *rows, device).device)
        of_rows = kept.values(coarse, *rows, device), kept.values(fine, *rows, device)
        variance = kept.variance(left, right, *rows, device)
        stored, w, variance = (
            x[:, : whole * size].view(len(x), -1, size)[chosen].view(-1, size // own, own)
            for x in (*of_rows, variance)
        )  # [n, blocks of the coarser copy in one of both, g]
        w, order = w.sort(dim=2)
        stored = stored.gather(2, order)
        moved = stored.sort(dim=2).values - stored
        saved = 2 * torch.linalg.vecdot(w, moved)
        half_step = SQRT12 / 2 * variance.mean(2).sqrt()
        disordered = torch.zeros_like(here)
        disordered[here] = (saved > 2 * half_step * moved.abs().sum(2)).any(1).to(here.device)
        return disordered

    blocks = torch.cat(spread(found, row_ranges(left)))
    return blocks if bool(blocks.any()) else None


def _bytes_a_weight(weight: Weight) -> float:
    return weight.entry.file_bytes / max(1, math.prod(weight.entry.dims))


def _in_order(coarse: Weight, fine: Weight) -> bool:
    """Whether the coarser copy, as it is read, holds its blocks along rows, one code for each weight of either copy."""
    one_code_each = coarse.dtype not in FLOATS and not {coarse.dtype, fine.dtype} & {*CODEBOOKS}
    of_schemes = any(of_scheme(weight.dtype) for weight in (coarse, fine))
    as_stored = not (coarse.transposed or coarse.columns or coarse.values_edits)
    return one_code_each and not of_schemes and as_stored
