"""The levels of quantised weights out of their blocks, one loop a dtype, compiled by numba when it is asked for.

What is made of them, and how coarse that is, `rosetta.blocks` says. Loops whose length the compiler knows are unrolled
before it looks for vectors, so none has one: `run` is 32. Letters: n = blocks, S = bytes of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from rosetta.kernels.arithmetic import exact

SIGNATURE = types.void(types.uint8[:, ::1], types.int8[::1], types.int64)


def _q8_0(blocks: Any, levels: Any, run: int) -> None:
    """A scale, 32 signed bytes."""
    of_blocks = levels.reshape(-1, 32)
    for n in range(len(blocks)):
        for w in range(run):
            of_blocks[n, w] = blocks[n, 2 + w]


def _q4_0(blocks: Any, levels: Any, run: int) -> None:
    """A scale, 16 bytes of nibbles."""
    _halves(blocks, 2, 8, levels.reshape(-1, 2, 16), run)


def _q4_1(blocks: Any, levels: Any, run: int) -> None:
    """A scale, a minimum, 16 bytes of nibbles."""
    _halves(blocks, 4, 0, levels.reshape(-1, 2, 16), run)


def _q5_0(blocks: Any, levels: Any, run: int) -> None:
    """A scale, four bytes of fifth bits, 16 bytes of nibbles."""
    _halves(blocks, 6, 16, levels.reshape(-1, 2, 16), run)
    _bits_in_order(blocks, 2, levels.reshape(-1, 4, 8), run)


def _q5_1(blocks: Any, levels: Any, run: int) -> None:
    """A scale, a minimum, four bytes of fifth bits, 16 bytes of nibbles."""
    _halves(blocks, 8, 0, levels.reshape(-1, 2, 16), run)
    _bits_in_order(blocks, 4, levels.reshape(-1, 4, 8), run)


def _q2_k(blocks: Any, levels: Any, run: int) -> None:
    """Scales and minima, 64 bytes of four planes of two bits."""
    _two_bits(blocks, 16, levels.reshape(-1, 2, 4, 32), run)


def _q3_k(blocks: Any, levels: Any, run: int) -> None:
    """32 bytes of third bits, 64 bytes of four planes of two bits."""
    _two_bits(blocks, 32, levels.reshape(-1, 2, 4, 32), run)
    _one_bits(blocks, 0, 4, 4, levels.reshape(-1, 8, 32), run)


def _q4_k(blocks: Any, levels: Any, run: int) -> None:
    """16 bytes of scales, 128 bytes of nibbles."""
    _nibbles(blocks, 16, levels.reshape(-1, 4, 2, 32), run)


def _q5_k(blocks: Any, levels: Any, run: int) -> None:
    """16 bytes of scales, 32 bytes of fifth bits, 128 bytes of nibbles."""
    _nibbles(blocks, 48, levels.reshape(-1, 4, 2, 32), run)
    _one_bits(blocks, 16, 16, 0, levels.reshape(-1, 8, 32), run)


def _q6_k(blocks: Any, levels: Any, run: int) -> None:
    """128 bytes of low nibbles, 64 bytes of four planes of high two bits."""
    of_blocks = levels.reshape(-1, 2, 4, 32)
    for n in range(len(blocks)):
        for half in range(2):
            low, high = 64 * half, 128 + 32 * half
            for w in range(run):
                of_blocks[n, half, 0, w] = ((blocks[n, low + w] & 15) | ((blocks[n, high + w] & 3) << 4)) - 32
            for w in range(run):
                of_blocks[n, half, 1, w] = (
                    (blocks[n, low + 32 + w] & 15) | ((blocks[n, high + w] & 12) << 2)
                ) - 32
            for w in range(run):
                of_blocks[n, half, 2, w] = ((blocks[n, low + w] >> 4) | (blocks[n, high + w] & 48)) - 32
            for w in range(run):
                of_blocks[n, half, 3, w] = (
                    (blocks[n, low + 32 + w] >> 4) | ((blocks[n, high + w] & 192) >> 2)
                ) - 32


@exact
def _halves(blocks: Any, start: int, offset: int, levels: Any, run: int) -> None:
    """Low nibbles, then high ones, of 16 bytes: `levels` is [n, 2, 16]."""
    for n in range(len(blocks)):
        for w in range(run // 2):
            levels[n, 0, w] = (blocks[n, start + w] & 15) - offset
        for w in range(run // 2):
            levels[n, 1, w] = (blocks[n, start + w] >> 4) - offset


@exact
def _bits_in_order(blocks: Any, start: int, levels: Any, run: int) -> None:
    """Adds 16 where a weight's bit is set: `levels` is [n, 4, 8]."""
    for n in range(len(blocks)):
        for byte in range(4):
            for w in range(run // 4):
                levels[n, byte, w] += ((blocks[n, start + byte] >> w) & 1) << 4


@exact
def _nibbles(blocks: Any, start: int, levels: Any, run: int) -> None:
    """Low nibbles, then high ones, of each 32 bytes: `levels` is [n, 4, 2, 32]."""
    for n in range(len(blocks)):
        for k in range(4):
            for w in range(run):
                levels[n, k, 0, w] = blocks[n, start + 32 * k + w] & 15
            for w in range(run):
                levels[n, k, 1, w] = blocks[n, start + 32 * k + w] >> 4


@exact
def _two_bits(blocks: Any, start: int, levels: Any, run: int) -> None:
    """Four planes of each 32 bytes: `levels` is [n, 2, 4, 32]."""
    for n in range(len(blocks)):
        for half in range(2):
            for plane in range(4):
                for w in range(run):
                    levels[n, half, plane, w] = (blocks[n, start + 32 * half + w] >> (2 * plane)) & 3


@exact
def _one_bits(blocks: Any, start: int, weight: int, offset: int, levels: Any, run: int) -> None:
    """Adds `weight` where a bit of eight planes of 32 bytes is set, less an offset: `levels` is [n, 8, 32]."""
    for n in range(len(blocks)):
        for plane in range(8):
            for w in range(run):
                levels[n, plane, w] += ((blocks[n, start + w] >> plane) & 1) * weight - offset


LEVELS: dict[str, Callable[[Any, Any, int], None]] = {
    "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
}  # fmt: skip
"""From stored blocks, uint8 [n, S], the levels of their weights in order, int8."""
