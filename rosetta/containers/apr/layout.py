"""The `.apr` v2 layout in numbers: header, flags and dtype codes, shared by reader and writer."""

from __future__ import annotations

import struct
import zlib

MAGIC = b"APR\0"
HEADER = struct.Struct("<4sBBHIQIQQI20s")  # magic, major, minor, flags, tensors, metadata at, size,
#                                            index at, data at, checksum, reserved; packed, 64 bytes
ALIGNMENT = 64
MAX_METADATA = 64 << 20  # bytes; aprender's MAX_METADATA_SIZE is a quarter of it, and no loader enforces it
MAX_NAME = 256  # bytes; aprender, MAX_TENSOR_NAME_LEN
MAX_DIMS = 8

LZ4, ZSTD, ENCRYPTED, SHARDED = 0x0001, 0x0002, 0x0004, 0x0010
QUANTIZED, HAS_VOCAB, ROW_MAJOR, COLUMN_MAJOR = 0x0020, 0x0200, 0x0400, 0x0800

CODES: dict[int, tuple[str, ...]] = {
    0: ("F32",),
    1: ("F16",),
    2: ("BF16", "Q4_0"),
    3: ("F64", "Q4_1"),
    4: ("I32",),
    5: ("I64",),
    6: ("I8", "Q5_0"),
    7: ("U8", "Q5_1"),
    8: ("APR_Q4", "Q8_0"),
    9: ("APR_Q8", "Q8_1"),
    10: ("Q2_K",),
    11: ("Q3_K",),
    12: ("Q4_K",),
    13: ("Q5_K",),
    14: ("Q6_K",),
    16: ("IQ2_XXS",),
    17: ("IQ2_XS",),
    30: ("BF16",),
    128: ("APR_Q4",),
    129: ("APR_Q8",),
}
"""What a dtype code has meant: aprender's meaning first, then realizar's (GGML's own code)."""

SAFE_CODES: dict[str, int] = {"F32": 0, "F16": 1, "BF16": 30, "Q4_K": 12, "Q6_K": 14}
"""Codes that every loader reads alike."""

ALL_CODES: dict[str, int] = {
    **{name: code for code, names in CODES.items() for name in reversed(names)},
    **SAFE_CODES,
    "APR_Q4": 128,
    "APR_Q8": 129,
}
"""A code for each dtype that some loader reads."""


def padded(size: int) -> int:
    """`size` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def header_checksum(header: bytes) -> int:
    """CRC-32 of the 64 header bytes without the checksum's own four (40 … 43)."""
    return zlib.crc32(header[44:64], zlib.crc32(header[:40]))
