"""The dtypes that a file may hold: one table of their sizes and codes. Nothing here decodes a value.

Names are gguf-py's (`Q4_K`), safetensors' where GGML has none (`U8`, `F8_E4M3`), and `APR_Q4`, `APR_Q8`. A name with a
colon (`GPTQ:INT4`) is that of a quantisation scheme which keeps a weight in several tensors of a folder: rows of it are
handed over as pairs of float32, a value and the standard deviation of its rounding, and it needs no row here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

PAIR = 8  # bytes of a value and its rounding
Field = tuple[int, int, int]
"""A stretch of a block that holds numbers wider than a byte: its first byte, the numbers' width, how many."""


@dataclass(frozen=True)
class Dtype:
    """One dtype.

    Args:
        name: in every file and report.
        code: GGML's; None outside of it.
        block_size: weights a block, 1 of plain numbers; 0 where the whole tensor is one block (APR_Q8).
        type_size: bytes a block; with `block_size` 0, the bytes before the first weight, of one byte each.
        wide: what a change of the byte order turns round; `.apr` files' own dtypes know one order.
        number: torch's name of a plain number's type; None where torch has none, and of blocks.
        mantissa_bits: explicit ones, of plain floats.
    """

    name: str
    code: int | None
    block_size: int
    type_size: int
    wide: tuple[Field, ...] = ()
    number: str | None = None
    mantissa_bits: int | None = None


def _number(
    name: str, code: int | None, size: int, number: str | None = None, mantissa_bits: int | None = None
) -> Dtype:
    return Dtype(name, code, 1, size, ((0, size, 1),) if size > 1 else (), number, mantissa_bits)


def of_scheme(name: str) -> bool:
    """Whether a dtype is that of a scheme which keeps a weight in several tensors."""
    return ":" in name


class _Table(dict[str, Dtype]):
    def __missing__(self, name: str) -> Dtype:
        if of_scheme(name):
            return Dtype(name, None, 1, PAIR)
        raise KeyError(name)


# Block sizes and fields: ggml-common.h. Where it declares bytes that ggml-quants.c reads and writes as one integer
# (IQ1_M, IQ2_XXS, IQ3_XXS), the integer is the field. gguf-py's table has 40 bytes for Q8_1, of before its floats
# were halved.
DTYPES: dict[str, Dtype] = _Table(
    (dtype.name, dtype)
    for dtype in (
        #       name     code bytes  number   mantissa
        _number("F32",       0, 4, "float32",  23),
        _number("F16",       1, 2, "float16",  10),
        _number("BF16",     30, 2, "bfloat16",  7),
        _number("F64",      28, 8, "float64",  52),
        _number("I8",       24, 1, "int8"),
        _number("I16",      25, 2, "int16"),
        _number("I32",      26, 4, "int32"),
        _number("I64",      27, 8, "int64"),
        _number("U8",     None, 1, "uint8"),
        _number("U16",    None, 2, "uint16"),
        _number("U32",    None, 4, "uint32"),
        _number("U64",    None, 8, "uint64"),
        _number("BOOL",   None, 1, "uint8"),
        _number("C64",    None, 8),
        _number("F8_E4M3",     None, 1),
        _number("F8_E5M2",     None, 1),
        _number("F8_E8M0",     None, 1),
        _number("F8_E4M3FNUZ", None, 1),
        _number("F8_E5M2FNUZ", None, 1),
        #     name      code  weights bytes  wide fields
        Dtype("F4",      None,   2,   1),
        Dtype("F6_E2M3", None,   4,   3),
        Dtype("F6_E3M2", None,   4,   3),
        Dtype("Q4_0",       2,  32,  18, ((0, 2, 1),)),
        Dtype("Q4_1",       3,  32,  20, ((0, 2, 2),)),
        Dtype("Q5_0",       6,  32,  22, ((0, 2, 1),)),
        Dtype("Q5_1",       7,  32,  24, ((0, 2, 2),)),
        Dtype("Q8_0",       8,  32,  34, ((0, 2, 1),)),
        Dtype("Q8_1",       9,  32,  36, ((0, 2, 2),)),
        Dtype("Q2_K",      10, 256,  84, ((80, 2, 2),)),
        Dtype("Q3_K",      11, 256, 110, ((108, 2, 1),)),
        Dtype("Q4_K",      12, 256, 144, ((0, 2, 2),)),
        Dtype("Q5_K",      13, 256, 176, ((0, 2, 2),)),
        Dtype("Q6_K",      14, 256, 210, ((208, 2, 1),)),
        Dtype("Q8_K",      15, 256, 292, ((0, 4, 1), (260, 2, 16))),
        Dtype("IQ2_XXS",   16, 256,  66, ((0, 2, 1), (2, 4, 16))),
        Dtype("IQ2_XS",    17, 256,  74, ((0, 2, 1), (2, 2, 32))),
        Dtype("IQ3_XXS",   18, 256,  98, ((0, 2, 1), (66, 4, 8))),
        Dtype("IQ1_S",     19, 256,  50, ((0, 2, 1), (34, 2, 8))),
        Dtype("IQ4_NL",    20,  32,  18, ((0, 2, 1),)),
        Dtype("IQ3_S",     21, 256, 110, ((0, 2, 1),)),
        Dtype("IQ2_S",     22, 256,  82, ((0, 2, 1),)),
        Dtype("IQ4_XS",    23, 256, 136, ((0, 2, 1), (2, 2, 1))),
        Dtype("IQ1_M",     29, 256,  56, ((48, 2, 4),)),
        Dtype("TQ1_0",     34, 256,  54, ((52, 2, 1),)),
        Dtype("TQ2_0",     35, 256,  66, ((64, 2, 1),)),
        Dtype("MXFP4",     39,  32,  17),
        Dtype("NVFP4",     40,  64,  36),
        Dtype("Q1_0",      41, 128,  18, ((0, 2, 1),)),
        Dtype("APR_Q4",  None,  32,  18),
        Dtype("APR_Q8",  None,   0,   4),
    )
)  # fmt: skip

BY_CODE: dict[int, Dtype] = {dtype.code: dtype for dtype in DTYPES.values() if dtype.code is not None}
"""GGML's dtypes by their code."""

FLOATS: dict[str, Dtype] = {name: dtype for name, dtype in DTYPES.items() if dtype.mantissa_bits is not None}
"""The floats that weights are decoded from."""


def flat_bytes(dtype: str, dims: Sequence[int]) -> int:
    """Bytes of a tensor whose blocks run over the flattened weights, the last block filled up.

    Args:
        dtype: a name of `DTYPES`.
        dims: row-major; empty for a scalar.
    """
    block, weights = DTYPES[dtype], prod(dims)
    if block.block_size == 0:
        return block.type_size + weights if weights else 0
    return -(-weights // block.block_size) * block.type_size


def rowwise_bytes(dtype: str, dims: Sequence[int]) -> int:
    """Bytes of a tensor whose rows are each filled up to whole blocks; of APR_Q8 it has no rows."""
    block = DTYPES[dtype]
    if block.block_size == 0:
        return flat_bytes(dtype, dims)
    return prod(dims[:-1]) * -(-dims[-1] // block.block_size) * block.type_size if dims else block.type_size


def whole_rows(dtype: str, dims: Sequence[int]) -> bool:
    """Whether each row is a whole number of blocks, as GGML requires."""
    return (dims[-1] if dims else 1) % (DTYPES[dtype].block_size or 1) == 0


def others_of_bytes(dtype: str, dims: Sequence[int], held: int, padding: int) -> list[str]:
    """The dtypes of weights, but for one, that fill a room exactly, or all but padding; at most three.

    Args:
        dtype: the one that is declared.
        dims: row-major.
        held: bytes of the room.
        padding: most bytes that may be left.
    """
    return [
        name
        for name, other in DTYPES.items()
        if (other.block_size > 1 or other.mantissa_bits is not None)  # weights are no integers
        and name != dtype
        and whole_rows(name, dims)
        and 0 <= held - flat_bytes(name, dims) <= padding
    ][:3]
