"""Raw bytes of a dtype to numbers, and to the rounding noise of those numbers; no files, no models.

A module of this package that has `FORMATS` adds its dtypes; nothing else needs to know it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules

from rosetta.blocks.floats import TORCH_FLOATS
from rosetta.blocks.format import BlockFormat, Writer
from rosetta.blocks.ggml import writer_of
from rosetta.blocks.pairs import pair_format
from rosetta.dtypes import flat_bytes, of_scheme, rowwise_bytes
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.lazily import torch

__all__ = [
    "FORMATS",
    "TORCH_FLOATS",
    "BlockFormat",
    "Decoder",
    "block_format",
    "decode",
    "decodes",
    "fits",
    "group_of",
    "nbytes",
    "rounds_to_nearest",
    "sigma",
    "step",
    "values_and_variance",
    "variance",
]

Decoder = Callable[[str, "torch.Tensor", Sequence[int]], "torch.Tensor"]
"""`decode`, `sigma`, `variance` or `step`."""

_SLAB = {"cpu": 1 << 21, "cuda": 1 << 26}  # weights worked on at a time: a CPU's cache, a GPU's launch

FORMATS: dict[str, BlockFormat] = {
    block.name: block
    for module in iter_modules(__path__)
    for block in getattr(import_module(f"{__name__}.{module.name}"), "FORMATS", ())
}


def block_format(dtype: str) -> BlockFormat:
    """The format of a dtype.

    Raises:
        UnsupportedError: rosetta cannot decode it.
    """
    if of_scheme(dtype):
        return pair_format(dtype)
    try:
        return FORMATS[dtype]
    except KeyError:
        raise UnsupportedError(
            f"dtype {dtype} cannot be decoded",
            remedy="convert the tensor to F32, F16, BF16 or a GGML quantisation such as Q8_0",
        ) from None


def decodes(dtype: str) -> bool:
    """Whether `decode` knows a dtype."""
    return of_scheme(dtype) or dtype in FORMATS


def group_of(dtype: str) -> int:
    """Weights that share one scale: the granularity at which two copies of a tensor are told apart."""
    return block_format(dtype).group


def nbytes(dtype: str, dims: Sequence[int]) -> int:
    """Bytes of a tensor whose blocks run over the flattened weights, the last one filled up.

    Args:
        dtype: canonical dtype name.
        dims: row-major; empty for a scalar.
    """
    return flat_bytes(block_format(dtype).name, dims)


def decode(
    dtype: str, raw: torch.Tensor, dims: Sequence[int], out: torch.Tensor | None = None
) -> torch.Tensor:
    """The values that a tensor's bytes stand for, bit-identical to gguf-py.

    The bytes are the blocks of the flattened tensor, or of each row filled up to whole blocks (as an `.apr`
    may hold a matrix); their number says which. Where both have the same number, a matrix of superblocks
    goes by rows.

    Args:
        dtype: canonical dtype name.
        raw: uint8 `[bytes]`, contiguous, on any device.
        dims: row-major; empty for a scalar.
        out: float32 to write into, contiguous, of as many weights: the pages of fresh memory cost more than
            decoding does.

    Returns:
        float32 of shape `dims` on the same device; `out`'s memory where it was given.

    Raises:
        UnsupportedError: rosetta cannot decode the dtype.
        DamagedFileError: the number of bytes fits neither layout.
    """
    block = block_format(dtype)
    return _filled(block, writer_of(block), raw, dims, out)


def sigma(
    dtype: str, raw: torch.Tensor, dims: Sequence[int], out: torch.Tensor | None = None
) -> torch.Tensor:
    """Standard deviation of the rounding that the dtype explains, for each weight (docs/noise.md).

    Never NaN where the weight is finite; where it is not, infinite or NaN.

    Args:
        dtype, raw, dims, out: as for `decode`.

    Returns:
        float32 of shape `dims` on the same device.

    Raises:
        UnsupportedError: rosetta cannot decode the dtype, or it holds integers.
        DamagedFileError: the number of bytes fits neither layout.
    """
    block = block_format(dtype)
    if block.write_sigma is None:
        raise UnsupportedError(
            f"dtype {dtype} holds integers, which have no rounding noise",
            remedy="weights must be of a float or a quantised dtype",
        )
    return _filled(block, block.write_sigma, raw, dims, out)


def variance(
    dtype: str, raw: torch.Tensor, dims: Sequence[int], out: torch.Tensor | None = None
) -> torch.Tensor:
    """`sigma` squared, in fewer passes over the weights; the arguments are those of `sigma`."""
    block = block_format(dtype)
    if block.write_variance is None:
        return sigma(dtype, raw, dims, out).square_()
    return _filled(block, block.write_variance, raw, dims, out)


def values_and_variance(
    dtype: str, raw: torch.Tensor, dims: Sequence[int], added_to: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`decode` and `variance` of the same bytes.

    Args:
        dtype, raw, dims: as for `decode`.
        added_to: a variance, float32 of shape `dims`, which this one is added to; it is what is returned then.
    """
    values, block = decode(dtype, raw, dims), block_format(dtype)
    if block.add_variance is None:
        found = variance(dtype, raw, dims)
        return values, found if added_to is None else added_to.add_(found)
    total = torch.zeros_like(values) if added_to is None else added_to
    block.add_variance(values, total)
    return values, total


def step(dtype: str, raw: torch.Tensor, dims: Sequence[int], out: torch.Tensor | None = None) -> torch.Tensor:
    """How far the levels next to each weight's own are, of a dtype whose encoders give a weight the nearest level.

    Raises:
        UnsupportedError: the dtype has no such levels; see `rounds_to_nearest`.
    """
    block = block_format(dtype)
    if block.write_step is None:
        raise UnsupportedError(
            f"the levels of dtype {dtype} are not evenly spaced, or not taken by the distance",
            remedy="ask only for those of K-quants",
        )
    return _filled(block, block.write_step, raw, dims, out)


def rounds_to_nearest(dtype: str) -> bool:
    """Whether every encoder of a dtype gives a weight the level that is nearest to it, of evenly spaced ones."""
    return decodes(dtype) and block_format(dtype).write_step is not None


def _filled(
    block: BlockFormat, write: Writer, raw: torch.Tensor, dims: Sequence[int], out: torch.Tensor | None
) -> torch.Tensor:
    """A tensor of shape `dims`, written slab by slab."""
    rows, columns = _layout(block, raw, dims)
    if out is None:
        out = torch.empty(rows * columns, dtype=torch.float32, device=raw.device)
    out = out.view(rows, columns)
    if not out.numel():
        return out.view(tuple(dims))
    if raw.data_ptr() % 8:  # a view as another type needs an even address
        raw = raw.clone()
    weights, size = (block.block_size, block.type_size) if block.block_size else (columns, raw.numel())
    blocks = raw.view(rows, -1, size)
    whole = columns // weights  # blocks of a row that are full
    if whole == blocks.shape[1]:
        _write_slabs(write, blocks.view(-1, size), out.view(-1, weights))
    elif rows == 1:
        _write_slabs(write, blocks[0, :whole], out[0, : whole * weights].view(-1, weights))
        _write_padded(write, blocks[:, whole:], weights, out[:, whole * weights :])
    else:
        _write_padded(write, blocks, weights, out)
    return out.view(tuple(dims))


def _slab(device: torch.device, weights: int) -> int:
    """How many items of so many weights are worked on at a time."""
    return max(1, _SLAB.get(device.type, _SLAB["cpu"]) // weights)


def _write_slabs(write: Writer, blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Full blocks `[n, S]` into `[n, B]`."""
    step = _slab(blocks.device, out.shape[1])
    for start in range(0, len(blocks), step):
        write(blocks[start : start + step], out[start : start + step])


def _write_padded(write: Writer, blocks: torch.Tensor, weights: int, out: torch.Tensor) -> None:
    """Rows of blocks `[R, b, S]` into rows `[R, C]` that end before their last block of `weights` does."""
    rows, width, size = blocks.shape
    step = _slab(blocks.device, width * weights)
    for start in range(0, rows, step):
        part = blocks[start : start + step].reshape(-1, size)
        padded = torch.empty((len(part), weights), dtype=torch.float32, device=out.device)
        write(part, padded)
        out[start : start + step] = padded.view(-1, width * weights)[:, : out.shape[1]]


def _layout(block: BlockFormat, raw: torch.Tensor, dims: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the matrix whose rows are filled up to whole blocks; one row if it is flat."""
    if any(d < 0 for d in dims):
        raise DamagedFileError(f"negative dims {list(dims)}", remedy="the file is damaged; write it again")
    weights, have = math.prod(dims), raw.numel()
    flat = by_row = nbytes(block.name, dims)
    columns = dims[-1] if dims else 1
    rows = weights // columns if columns else 0
    if block.block_size and rows:
        by_row = rows * -(-columns // block.block_size) * block.type_size
    if have == by_row and (have != flat or (block.block_size == 256 and len(dims) == 2)):
        return rows, columns
    if have == flat:
        return 1, weights
    expected = f"{flat:,}" if flat == by_row else f"{flat:,} (or {by_row:,} with each row padded)"
    raise DamagedFileError(
        f"{block.name} data of dims {list(dims)} has {have:,} bytes instead of {expected}",
        remedy="the file is truncated, or its dtype or dims are wrong; write it again",
    )


def fits(dtype: str, nbytes_held: int, dims: Sequence[int]) -> bool:
    """Whether so many bytes are a tensor of this dtype and dims, flat or with each row padded."""
    return nbytes_held in (nbytes(dtype, dims), rowwise_bytes(dtype, dims))
