"""Sizes of every dtype that a container may hold, by gguf-py's names; nothing here decodes a value."""

from __future__ import annotations

from math import prod

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

BLOCKS: dict[str, tuple[int, int]] = {
    **{dtype.name: sizes for dtype, sizes in GGML_QUANT_SIZES.items()},
    "Q8_1": (32, 36),  # ggml-common.h, block_q8_1: two f16 and 32 bytes (gguf-py's table still has two f32)
    "APR_Q4": (32, 18),
    "U8": (1, 1),
    "U16": (1, 2),
    "U32": (1, 4),
    "U64": (1, 8),
    "BOOL": (1, 1),
    "F8_E4M3": (1, 1),
    "F8_E5M2": (1, 1),
    "F8_E8M0": (1, 1),
    "C64": (1, 8),
}
"""Weights a block and bytes a block. APR_Q8 is not here: one scale serves the whole tensor."""

GGUF_CODES: dict[int, str] = {dtype.value: dtype.name for dtype in GGMLQuantizationType}

QUANTISED: frozenset[str] = frozenset(
    {"APR_Q8", *(name for name, (weights, _) in BLOCKS.items() if weights > 1)}
)
K_QUANTS: frozenset[str] = frozenset({"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"})


def flat_bytes(dtype: str, dims: tuple[int, ...]) -> int:
    """Bytes of a tensor whose blocks run over the flattened weights, the last block padded.

    Args:
        dtype: a name of `BLOCKS`, or `APR_Q8`.
        dims: row-major; empty for a scalar.
    """
    weights = prod(dims)
    if dtype == "APR_Q8":  # one f32 scale, then a byte a weight
        return 4 + weights if weights else 0
    block, size = BLOCKS[dtype]
    return -(-weights // block) * size


def rowwise_bytes(dtype: str, dims: tuple[int, ...]) -> int:
    """Bytes of a tensor whose rows are each padded to whole blocks."""
    block, size = BLOCKS[dtype]
    return prod(dims[:-1]) * -(-dims[-1] // block) * size if dims else size


def whole_rows(dtype: str, dims: tuple[int, ...]) -> bool:
    """Whether each row is a whole number of blocks, as GGML requires."""
    return (dims[-1] if dims else 1) % BLOCKS[dtype][0] == 0
