"""K-quants: superblocks whose sub-blocks of 16 or 32 weights have evenly spaced levels.

Layouts: ggml-common.h, block_q2_K … block_q6_K. Letters: n = superblocks.
"""

from __future__ import annotations

from functools import partial

from rosetta.blocks.fields import aligned, half, words, write_nibbles
from rosetta.blocks.superblock import Minima, superblock_format
from rosetta.lazily import torch


def _two_bit_planes(packed: torch.Tensor) -> torch.Tensor:
    """uint8 `[n, 2, 32]` of four 2-bit planes -> uint8 `[n, 2, 4, 32]`."""
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device)[:, None]
    return (packed[:, :, None] >> shifts).bitwise_and_(3)


def _one_bit_planes(packed: torch.Tensor) -> torch.Tensor:
    """uint8 `[n, 32]` of eight 1-bit planes -> uint8 `[n, 8, 32]`."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)[:, None]
    return (packed[:, None] >> shifts).bitwise_and_(1)


# Q2_K: 16 bytes of 4-bit scales and minima, 64 bytes of levels, d, dmin


def _q2_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.view(-1, 2, 4, 32).copy_(_two_bit_planes(blocks[:, 16:80].view(-1, 2, 32)))


def _q2_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return half(blocks, 80), aligned(blocks[:, :16]).bitwise_and_(15).float()


def _q2_minima(blocks: torch.Tensor) -> torch.Tensor:
    return (blocks[:, :16] >> 4).float()


# Q3_K: 32 bytes of third bits, 64 bytes of levels, 12 bytes of 6-bit scales, d


def _q3_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    q = _two_bit_planes(blocks[:, 32:96].view(-1, 2, 32))
    q.view(-1, 8, 32).bitwise_or_(_one_bit_planes(blocks[:, :32]).mul_(4))
    out.view(-1, 2, 4, 32).copy_(q.sub_(4).view(torch.int8))


def _q3_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The low nibbles of 16 scales in eight bytes, then their high two bits in four planes of four bytes."""
    low = torch.cat([blocks[:, 96:104] & 15, blocks[:, 96:104] >> 4], dim=1)
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)[:, None]
    high = (blocks[:, None, 104:108] >> shifts).bitwise_and_(3).flatten(1)
    return half(blocks, 108), low.bitwise_or_(high.mul_(16)).sub_(32).view(torch.int8).float()


# Q4_K: d, dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles. Q5_K: 32 bytes of fifth bits first


def _q4_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    write_nibbles(blocks[:, 16:].view(-1, 4, 32), out.view(-1, 4, 2, 32))


def _q5_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    q = _one_bit_planes(blocks[:, 16:48]).mul_(16)
    nibbles = torch.empty_like(q)
    write_nibbles(blocks[:, 48:].view(-1, 4, 32), nibbles.view(-1, 4, 2, 32))
    out.view(-1, 8, 32).copy_(q.bitwise_or_(nibbles))


def _q4_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Four whole scales; of the other four the low nibbles, and the high bits above the first four."""
    first, _, last = words(blocks, 4, 16, torch.int32).unbind(1)
    return half(blocks, 0), _eight(first, last & 0x0F0F0F0F)


def _q4_minima(blocks: torch.Tensor) -> torch.Tensor:
    first, last = words(blocks, 8, 16, torch.int32).unbind(1)
    return _eight(first, (last >> 4) & 0x0F0F0F0F)


def _eight(first: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Eight numbers of six bits, float32 `[n, 8]`, from words of four bytes, int32 `[n]`: the first four, and the low
    bits of the others, whose high bits are above the first ones."""
    others = low | ((first >> 2) & 0x30303030)
    return torch.stack([first & 0x3F3F3F3F, others], dim=1).view(torch.uint8).float()


# Q6_K: 128 bytes of low nibbles, 64 bytes of high two bits, 16 signed scales, d


def _q6_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Bytes that lie together are worked on together: loops over the 32 of a plane cost as much as their work."""
    low, high = aligned(blocks[:, :128]), aligned(blocks[:, 128:192])
    planes = ((high & 3) << 4, (high & 12) << 2, high & 48, (high & 192) >> 2)
    q = torch.stack([plane.view(-1, 2, 32) for plane in planes], dim=2)  # [n, 2, 4, 32]
    q[:, :, :2].bitwise_or_((low & 15).view(-1, 2, 2, 32))
    q[:, :, 2:].bitwise_or_((low >> 4).view(-1, 2, 2, 32))
    out.view(-1, 2, 4, 32).copy_(q.sub_(32).view(torch.int8))


def _q6_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return half(blocks, 208), aligned(blocks[:, 192:208]).view(torch.int8).float()


ONE = b"\x00\x3c"  # as a float16
Q2_UNSCALED = {0: b"\x01" * 16, 80: ONE + bytes(2)}
Q3_UNSCALED = {96: b"\x11" * 8 + b"\xaa" * 4 + ONE}  # 33 in six bits, of which 32 is taken off
Q4_UNSCALED = {0: ONE + bytes(2) + b"\x01" * 4 + bytes(4) + b"\x01" * 4}
Q2_MINIMA, Q4_MINIMA = Minima(82, _q2_minima), Minima(2, _q4_minima)

# Once the scales are rounded the levels are taken anew, whatever the scales were fitted to (ggml-quants.c,
# quantize_row_q2_K_impl and its like).
_k_quant = partial(superblock_format, nearest=True)

FORMATS = (
    _k_quant("Q2_K", 16, _q2_levels, _q2_scales, Q2_MINIMA, reach=3,  scale_reach=15,  scale=80,  unscaled=Q2_UNSCALED),
    _k_quant("Q3_K", 16, _q3_levels, _q3_scales,           reach=4,  scale_reach=32,  scale=108, unscaled=Q3_UNSCALED),
    _k_quant("Q4_K", 32, _q4_levels, _q4_scales, Q4_MINIMA, reach=15, scale_reach=63,  scale=0,   unscaled=Q4_UNSCALED),
    _k_quant("Q5_K", 32, _q5_levels, _q4_scales, Q4_MINIMA, reach=31, scale_reach=63,  scale=0,   unscaled=Q4_UNSCALED),
    _k_quant("Q6_K", 16, _q6_levels, _q6_scales,             reach=32, scale_reach=128, scale=208, quick=True),
)  # fmt: skip
