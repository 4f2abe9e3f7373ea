"""IQ1_S to IQ3_S: superblocks whose weights are taken four or eight at a time from a codebook.

Layouts: ggml-common.h, block_iq1_s … block_iq3_s; the codebooks are gguf-py's tables.
Letters: n = superblocks, K = entries of a codebook, v = weights an entry, L = levels a weight may have.
"""

from __future__ import annotations

from functools import cache

from gguf import quants

from rosetta.blocks.fields import aligned, bits, half
from rosetta.blocks.format import BlockFormat
from rosetta.blocks.superblock import Levels, Scales, superblock_format
from rosetta.lazily import torch

_DELTA = 0.125  # ggml-common.h, IQ1S_DELTA: the three levels of IQ1 are all shifted up or down by it


@cache
def _codebook(name: str, device: torch.device) -> torch.Tensor:
    """float32 `[K, v]`."""
    source = getattr(quants, name)
    source.init_grid()
    return torch.tensor(source.grid, dtype=torch.float32, device=device).view(source.grid_shape)


@cache
def _signs(device: torch.device) -> torch.Tensor:
    """float32 `[128, 8]` of ±1: seven bits are seven signs, the eighth makes the number of minuses even."""
    packed = torch.tensor(list(quants.IQ2_XXS.ksigns), dtype=torch.uint8, device=device)
    return 1 - 2 * bits(packed[:, None]).float()


def _gap(name: str, level_gap: float, parity: bool = False) -> float:
    """The gap of an even grid as dense as the codebook.

    Of all Lᵛ combinations only K are in the book, so each stands for Lᵛ / K times the volume, and in each of
    the v directions for the v-th root of that. Minuses that come only in even numbers double the volume of 8.
    """
    source = getattr(quants, name)
    entries, width = source.grid_shape
    thinned = (len(source.grid_map) ** width / entries) ** (1 / width)
    return float(level_gap * thinned * (2 ** (1 / 8) if parity else 1))


def _u16(field: torch.Tensor) -> torch.Tensor:
    """uint8 `[n, 2k]` -> int32 `[n, k]`."""
    pairs = field.int().view(len(field), -1, 2)
    low, high = pairs.unbind(2)
    return low | high << 8


def _split(packed: torch.Tensor, width: int, count: int, stride: int | None = None) -> torch.Tensor:
    """Fields of `width` bits, lowest first, `stride` bits apart: `[n, k]` -> `[n, k · count]`."""
    step = stride or width
    shifts = torch.arange(0, step * count, step, dtype=packed.dtype, device=packed.device)
    return (packed[:, :, None] >> shifts).bitwise_and_((1 << width) - 1).flatten(1)


def _take(name: str, index: torch.Tensor, out: torch.Tensor) -> None:
    """Write the codebook's entries: int32 index `[n, 256 / v]`, out `[n, 256]`."""
    torch.index_select(
        _codebook(name, out.device), 0, index.flatten(), out=out.view(-1, 256 // index.shape[1])
    )


def _apply_signs(index: torch.Tensor, out: torch.Tensor) -> None:
    """Multiply each eight weights by the signs of their index: int32 `[n, 32]`."""
    out.view(-1, 8).mul_(_signs(out.device).index_select(0, index.flatten()))


def _apply_sign_bits(packed: torch.Tensor, out: torch.Tensor) -> None:
    """Negate the weights whose bit is set: uint8 `[n, 32]`."""
    out.mul_(1 - 2 * bits(packed).float())


def _nibble_scales(start: int, count: int, unit: float) -> Scales:
    """4-bit scales s, low nibble first, that stand for s + ½ units of d."""

    def scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return half(blocks, 0) * unit, _split(blocks[:, start : start + count], 4, 2) + 0.5

    return scales


def _word_scales(start: int, stride: int, unit: float) -> Scales:
    """4-bit scales in the top bits of 32-bit words `stride` bytes apart; the first top byte at `start`."""

    def scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return half(blocks, 0) * unit, (blocks[:, start::stride][:, :8] >> 4) + 0.5

    return scales


def _word_signs(words: torch.Tensor) -> torch.Tensor:
    """Four 7-bit sign indices of each 32-bit word: uint8 `[n, 8, 4]` -> int32 `[n, 32]`."""
    return _split(aligned(words).view(torch.int32).view(-1, 8), 7, 4)


def _iq2_xxs_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """For each 32 weights four bytes of indices, and a word of four 7-bit signs and the scale."""
    pairs = blocks[:, 2:66].view(-1, 8, 8)
    _take("IQ2_XXS", pairs[:, :, :4].int().flatten(1), out)
    _apply_signs(_word_signs(pairs[:, :, 4:]), out)


def _iq2_xs_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Nine bits of index and seven of signs."""
    words = _u16(blocks[:, 2:66])
    _take("IQ2_XS", words & 511, out)
    _apply_signs(words >> 9, out)


def _iq2_s_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Low bytes of the indices, signs, then two high bits of each index."""
    high = _split(blocks[:, 66:74], 2, 4).int()
    _take("IQ2_S", blocks[:, 2:34].int() | high << 8, out)
    _apply_sign_bits(blocks[:, 34:66], out)


def _iq3_xxs_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    _take("IQ3_XXS", blocks[:, 2:66].int(), out)
    _apply_signs(_word_signs(blocks[:, 66:98].view(-1, 8, 4)), out)


def _iq3_s_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Low bytes of the indices, their ninth bits, then signs."""
    _take("IQ3_S", blocks[:, 2:66].int() | bits(blocks[:, 66:74]).int() << 8, out)
    _apply_sign_bits(blocks[:, 74:106], out)


def _iq1_levels(low: torch.Tensor, high: torch.Tensor, down: torch.Tensor, out: torch.Tensor) -> None:
    """Indices of eleven bits, and a shift by delta for each eight weights: all `[n, 32]`."""
    _take("IQ1_S", low.int() | high.int() << 8, out)
    out.view(-1, 32, 8).add_(torch.where(down, -_DELTA, _DELTA)[..., None])


def _iq1_s_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Each 16-bit word: four times three high bits, three bits of scale, the sign of delta."""
    words = _u16(blocks[:, 34:50])  # [n, 8]
    _iq1_levels(blocks[:, 2:34], _split(words, 3, 4), (words >= 0x8000).repeat_interleave(4, dim=1), out)


def _iq1_s_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return half(blocks, 0) * 2, (_u16(blocks[:, 34:50]) >> 12 & 7) + 0.5


def _iq1_m_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Each nibble: three high bits and the sign of delta."""
    nibbles = _split(blocks[:, 32:48], 4, 2)
    _iq1_levels(blocks[:, :32], nibbles & 7, nibbles >= 8, out)


def _iq1_m_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Four 16-bit words: each holds four 3-bit scales, and in its top nibble a quarter of the float16."""
    words = _u16(blocks[:, 48:56])
    top = words >> 12
    joined = top[:, :1] | top[:, 1:2] << 4 | top[:, 2:3] << 8 | top[:, 3:] << 12
    d = joined.short().view(torch.float16).float()
    return d * 2, _split(words, 3, 4) + 0.5


def _format(
    name: str, group: int, levels: Levels, scales: Scales, gap: float, reach: float, top: float
) -> BlockFormat:
    return superblock_format(name, group, levels, scales, reach=reach, scale_reach=top, gap=gap)


# Levels lie 16 to 18 apart in IQ2 (8, 25, 43), 8 in IQ3_XXS, 2 in IQ3_S, 1 in IQ1.
FORMATS = (
    _format("IQ2_XXS", 32, _iq2_xxs_levels, _word_scales(9, 8, 0.25), _gap("IQ2_XXS", 17, True), 43, 15.5),
    _format("IQ2_XS", 16, _iq2_xs_levels, _nibble_scales(66, 8, 0.25), _gap("IQ2_XS", 17, True), 43, 15.5),
    _format("IQ2_S", 16, _iq2_s_levels, _nibble_scales(74, 8, 0.25), _gap("IQ2_S", 17), 43, 15.5),
    _format("IQ3_XXS", 32, _iq3_xxs_levels, _word_scales(69, 4, 0.5), _gap("IQ3_XXS", 8, True), 62, 15.5),
    _format("IQ3_S", 32, _iq3_s_levels, _nibble_scales(106, 4, 2.0), _gap("IQ3_S", 2), 15, 15.5),
    _format("IQ1_S", 32, _iq1_s_levels, _iq1_s_scales, _gap("IQ1_S", 1), 1.125, 7.5),
    _format("IQ1_M", 16, _iq1_m_levels, _iq1_m_scales, _gap("IQ1_M", 1), 1.125, 7.5),
)
