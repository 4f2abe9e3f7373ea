"""ggml's own decoders and encoders, out of the library that llama-cpp-python brings.

Most decoders are three times as fast as ours, which need several passes over memory. One is used for a dtype once it
has given the same bits as ours on random blocks, and never else; none for a dtype of which it takes one weight after
another and twice our time (Q6_K). Of encoders we have none of our own: a search for the best scales is ggml's matter.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rosetta.blocks.format import BlockFormat, Writer
from rosetta.dtypes import DTYPES, FLOATS
from rosetta.lazily import torch
from rosetta.workers import spread

TRIED = 256  # random blocks; of any two bits of a block about a hundred of them have each value that both can have
SEED = 0
ROWS_AT_ONCE = 64  # that a core encodes


class _TypeTraits(ctypes.Structure):
    """ggml.h, struct ggml_type_traits."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block_size", ctypes.c_int64),
        ("block_size_interleaved", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


@cache
def writer_of(block: BlockFormat) -> Writer:
    """What decodes a format: ggml's decoder on the CPU where it is there, agrees and is the quicker one; else our
    own."""
    theirs = None if block.quick else _decoder(block)
    if theirs is None:
        return block.write_values

    def write(blocks: torch.Tensor, out: torch.Tensor) -> None:
        direct = (
            blocks.device.type == out.device.type == "cpu" and blocks.is_contiguous() and out.is_contiguous()
        )
        (theirs if direct else block.write_values)(blocks, out)

    return write


@cache
def decoder_of(block: BlockFormat) -> Writer | None:
    """ggml's decoder of a format, of contiguous blocks in the CPU's memory; None where it is not there or disagrees."""
    return _decoder(block)


def agrees(theirs: Writer, block: BlockFormat) -> bool:
    """Whether a decoder gives the bits of ours on random blocks; NaN is any NaN."""
    rng = torch.Generator().manual_seed(SEED)
    blocks = torch.randint(0, 256, (TRIED, block.type_size), dtype=torch.uint8, generator=rng)
    own, other = (torch.empty(TRIED, block.block_size, dtype=torch.float32) for _ in range(2))
    block.write_values(blocks, own)
    theirs(blocks, other)
    nan = own.isnan()
    same = own.view(torch.int32).masked_fill(nan, 0) == other.view(torch.int32).masked_fill(nan, 0)
    return bool(torch.equal(nan, other.isnan()) and same.all())


def has_encoder(block: BlockFormat) -> bool:
    """Whether ggml is there and encodes a format without an importance matrix."""
    library = _library()
    return _traits(block) is not None and not library.ggml_quantize_requires_imatrix(DTYPES[block.name].code)


def encode(block: BlockFormat, values: torch.Tensor) -> torch.Tensor:
    """Rows in ggml's encoding of a format, which `has_encoder`.

    Args:
        block: the format.
        values: finite, float32 [R, C], C a multiple of its block.

    Returns:
        Their bytes, uint8 [R, bytes a row].
    """
    code, weighed = DTYPES[block.name].code, None

    def some(values: torch.Tensor) -> torch.Tensor:
        rows, columns = values.shape
        out = torch.zeros(rows, columns // block.block_size * block.type_size, dtype=torch.uint8)
        to = values.data_ptr(), out.data_ptr()
        # It lets go of Python's lock meanwhile.
        written = _library().ggml_quantize_chunk(code, *to, 0, rows, columns, weighed)
        assert written == out.numel(), f"ggml wrote {written} bytes of {block.name}, not {out.numel()}"
        return out

    return torch.cat(spread(some, torch.split(values.float().contiguous(), ROWS_AT_ONCE)))


def _decoder(block: BlockFormat) -> Writer | None:
    to_float = _to_float(block)
    if to_float is None:
        return None

    def write(blocks: torch.Tensor, out: torch.Tensor) -> None:
        to_float(blocks.data_ptr(), out.data_ptr(), out.numel())  # lets go of Python's lock meanwhile

    return write if agrees(write, block) else None


def _to_float(block: BlockFormat) -> Callable[[int, int, int], None] | None:
    """ggml's function of a quantised dtype, where the library has one."""
    traits = _traits(block)
    return None if traits is None else traits.to_float or None


def _traits(block: BlockFormat) -> _TypeTraits | None:
    """What ggml says of a quantised dtype, where the library has it in blocks of this size."""
    code, library = DTYPES[block.name].code, _library()
    if library is None or code is None or block.name in FLOATS or block.write_sigma is None:
        return None
    traits: _TypeTraits = library.ggml_get_type_traits(code)[0]
    sizes = traits.block_size, traits.type_size, traits.type_name or b""
    if sizes[:2] != (block.block_size, block.type_size) or sizes[2].decode().upper() != block.name:
        return None  # another version of the library numbers or packs it otherwise
    return traits


@cache
def _library() -> Any:
    """ggml's library without llama.cpp around it; None where it is not installed or cannot be loaded."""
    package = find_spec("llama_cpp")
    for folder in (package and package.submodule_search_locations) or ():
        for path in sorted(Path(folder, "lib").glob("*ggml-base*")):
            try:
                library = ctypes.CDLL(str(path))
                library.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
                library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
                library.ggml_quantize_chunk.restype = ctypes.c_size_t
                library.ggml_quantize_chunk.argtypes = [
                    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
                    *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
                ]
            except (OSError, AttributeError):
                continue
            return library
    return None
