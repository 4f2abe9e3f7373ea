"""The tensors of a packed weight as they must be stored, for a weight that is right when it is read in another way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from rosetta.blocks.schemes.packed import Packed, codes, in_runs, in_turn
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

EVEN = 127  # the exponent of one, E8M0
Read = Callable[[str], "Tensor"]
"""A part's tensor as it is stored, of its own dims, by what it is for."""


def rewritten(weight: Packed, read: Read) -> Mapping[str, Tensor] | None:
    """Tensors that read by the scheme's own rules give what the weight's way makes of those that are stored.

    Args:
        weight: with the way in which it is right.
        read: its parts.

    Returns:
        By what they are for; empty where they are right as they are; None where no tensors say it.
    """
    way, found = weight.way, dict[str, "Tensor"]()
    if way.swapped:
        found |= {part: weight.reordered(read(part)) for part in way.swapped if part in weight.parts}
    if way.in_order:
        index = read("index")
        groups = weight.scales_by_row(read("scales"))
        assert groups is not None
        found["index"] = in_turn(len(index), -(-len(index) // groups.shape[1])).to(index.dtype)
    if way.zero_shift:
        shifted = _shifted(weight, read, way.zero_shift)
        if shifted is None:
            return None
        found |= shifted
    if way.scales != "as stored":
        scales = _scales(weight, read)
        if scales is None:
            return None
        found |= scales
    return found


def _shifted(weight: Packed, read: Read, shift: int) -> Mapping[str, Tensor] | None:
    """Zero points more by so much, of whole turns of their codes where they are packed."""
    if "biases" in weight.parts:
        scale, bias = read("scales"), read("biases")
        return {"biases": (bias.float() - shift * scale.float()).to(bias.dtype)}
    if "zeros" not in weight.parts:
        return None
    zeros = read("zeros")
    by_row = zeros_by_row(weight, zeros)
    return {"zeros": zeros + shift if by_row is None else zeros_as_stored(weight, by_row + shift, zeros)}


def zeros_by_row(weight: Packed, stored: Tensor) -> Tensor | None:
    """Zero points as they are stored, int64 [R, G]; None where several rows have one."""
    if not weight.zeros_packed:
        return stored.reshape(weight.rows, -1).long() if stored.numel() % weight.rows == 0 else None
    along = stored.T if weight.zeros_packed == "along rows" else stored
    held = codes(along, weight.code_bits)  # [G, codes]
    if weight.row_places:
        held = in_runs(held, len(weight.row_places))[..., torch.tensor(weight.row_places)].flatten(-2)
    return held[:, : weight.rows].T.long()


def zeros_as_stored(weight: Packed, by_row: Tensor, like: Tensor) -> Tensor:
    """The tensor of zero points that `zeros_by_row` reads so; those that are packed are whole turns of their codes."""
    if not weight.zeros_packed:
        return by_row.to(like.dtype).reshape(like.shape)
    along_rows = weight.zeros_packed == "along rows"
    numbers = by_row.T.long() & ((1 << weight.code_bits) - 1)
    if weight.row_places:
        rows = in_runs(numbers, len(weight.row_places))
        placed = torch.empty_like(rows)
        placed[..., torch.tensor(weight.row_places)] = rows
        numbers = placed.flatten(-2)
    words = packed_codes(numbers, like.shape[0] if along_rows else like.shape[1], weight.code_bits)
    return words.T.contiguous() if along_rows else words


def packed_codes(numbers: Tensor, words: int, bits: int | None = None) -> Tensor:
    """Codes in rows of words, the lowest bits first: what `codes` reads.

    Args:
        numbers: integers [R, codes].
        words: of 32 bits in a row.
        bits: of a code; None: as many as fill the words.
    """
    flat = numbers.numpy().astype(np.uint8)
    width = bits or 32 * words // flat.shape[1]
    single = np.unpackbits(flat[..., None], axis=-1, bitorder="little")[..., :width].reshape(len(flat), -1)
    single = np.pad(single, ((0, 0), (0, 32 * words - single.shape[1])))
    return torch.from_numpy(np.packbits(single, axis=-1, bitorder="little").view(np.int32).copy())


def _scales(weight: Packed, read: Read) -> Mapping[str, Tensor] | None:
    """The scales, and what goes with them, as the way has them."""
    scale, way = read("scales"), weight.way.scales
    whole = "all" if "all" in weight.parts else "scales"
    if way == "divided by":
        other = read(whole)
        return {
            whole: 2 * EVEN - other if other.dtype == torch.uint8 else (1 / other.float()).to(other.dtype)
        }
    if way == "transposed":
        return {part: _across(weight, read(part)) for part in ("scales", "biases") if part in weight.parts}
    if "outer_scales" in weight.parts:
        return None
    if scale.dtype == torch.uint8:
        return {"scales": torch.full_like(scale, EVEN)}
    found = {"scales": torch.ones(scale.shape).to(scale.dtype)}
    if "all" in weight.parts:
        found["all"] = torch.ones_like(read("all"))
    if "biases" in weight.parts:
        bias = read("biases")
        ratio = torch.where(scale == 0, 0.0, bias.float() / scale.float())
        found["biases"] = ratio.to(bias.dtype)
    return found


def _across(weight: Packed, stored: Tensor) -> Tensor:
    """Numbers of a matrix, or of each of a stack, that were written along the other axis."""
    high, wide = stored.shape[-2:] if stored.dim() > 1 else (weight.scale_rows, -1)
    turned = stored.reshape(*stored.shape[:-2], wide, high) if stored.dim() > 1 else stored.view(-1, high)
    data = turned.view(torch.uint8) if turned.element_size() == 1 else turned
    return data.transpose(-1, -2).contiguous().view(stored.dtype).reshape(stored.shape)
