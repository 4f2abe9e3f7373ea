"""Floats of eight bits with a scale for the tensor, for each row, or for each block of 128 × 128: DeepSeek's and
transformers' FineGrainedFP8 (`weight_scale_inv`), fbgemm's and others' (`weight_scale`).

Arithmetic: transformers, finegrained_fp8.py: code · scale in float32. `weight_scale_inv` is what is multiplied with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from rosetta.blocks.fields import SQRT12, spacing, unit
from rosetta.blocks.schemes.affine import added, applied
from rosetta.blocks.schemes.packed import FLOATS, Folder, Packed, Packing, Parts, Way
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

FBGEMM = "fbgemm_fp8"
METHODS = ("fp8", FBGEMM)
POWERS = tuple(2**n for n in range(4, 13))  # rows and columns of the blocks that are in use
CODES = {
    # safetensors' name: mantissa bits, the smallest step (OCP 8-bit Floating Point v1.0; FNUZ: one exponent less)
    "F8_E4M3": (3, 2.0**-9),
    "F8_E5M2": (2, 2.0**-16),
    "F8_E4M3FNUZ": (3, 2.0**-10),
    "F8_E5M2FNUZ": (2, 2.0**-17),
}


@dataclass(frozen=True)
class Fp8Weight(Packed):
    """One weight, or a stack of them.

    Args:
        code: its codes' dtype.
        block: rows and columns that share a scale, each counted within a matrix of a stack.
        rounded: whether the product is rounded to the scales' dtype.
        scheme: the scheme's name in the dtype.
    """

    code: str = "F8_E4M3"
    block: tuple[int, int] = (1, 1)
    rounded: bool = False
    scheme: str = "FP8"

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return f"{self.scheme}:{self.code.removeprefix('F8_')}"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        found = [Way(scales="ignored"), Way(scales="divided by")]
        return found if len(self.dims) != 2 or 1 in self.grid else [*found, Way(scales="transposed")]

    @property
    def scale_rows(self) -> int:
        """See `Packed`."""
        return prod(self.dims[:-2]) * self.grid[0]

    def places(self, parts: Parts, start: int, stop: int, groups: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        row, per_matrix = torch.arange(start, stop), self.dims[-2]
        of_rows = row // per_matrix * self.grid[0] + row % per_matrix // self.block[0]
        return of_rows, torch.arange(self.columns) // self.block[1]

    @property
    def grid(self) -> tuple[int, int]:
        """Scales of a matrix: how many blocks of rows, how many of columns."""
        return -(-self.dims[-2] // self.block[0]), -(-self.dims[-1] // self.block[1])

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        code = parts.rows(self.parts["codes"], start, stop).float()
        scale = self._scales(parts, start, stop)
        bits, floor = CODES[self.code]
        sigma = spacing(code.clone(), bits, floor, SQRT12).mul_(scale.float().abs())
        values = code * scale.float()
        if self.rounded and scale.dtype != torch.float32:
            values = values.to(scale.dtype).float()
            sigma = added(sigma, unit(values, scale.dtype))
        return values, sigma

    def _scales(self, parts: Parts, start: int, stop: int) -> Tensor:
        """The scale of each weight of the rows, [rows, C], of the scales' dtype."""
        high, wide = self.grid
        per_matrix = self.dims[-2]
        row = torch.arange(start, stop)
        stored = _powers(parts.rows(self.parts["scales"])).reshape(-1, high, wide)
        if self.way.scales == "transposed":
            stored = stored.reshape(-1, wide, high).transpose(1, 2)
        stored = applied(stored, self.way)
        matrix = row // per_matrix if len(stored) > 1 else torch.zeros_like(row)
        of_rows = stored[matrix, row % per_matrix // self.block[0]]
        return of_rows.index_select(-1, torch.arange(self.columns) // self.block[1])


def _powers(scale: Tensor) -> Tensor:
    """Scales as floats: exponents of two are stored as bytes (E8M0)."""
    if scale.dtype == torch.uint8:
        return (scale.float() - 127).exp2()
    return scale.float() if scale.dtype not in (torch.float16, torch.bfloat16) else scale


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    names = [name for name, entry in folder.tensors.items() if entry.dtype in CODES and len(entry.dims) > 1]
    size = told_size(folder, names, folder.config.get("weight_block_size"))
    weights = [fp8_weight(folder, name, size) for name in names]
    kinds = ", ".join(dict.fromkeys(weight.code.removeprefix("F8_") for weight in weights)) or "no weights"
    shared = " and ".join(dict.fromkeys(_words(weight, size) for weight in weights)) or "nothing packed"
    return Packing(f"FP8 ({kinds}), {shared}", tuple(weights))


def told_size(folder: Folder, names: Iterable[str], stated: object) -> object:
    """The block that shares a scale: the stated one, but where no weight's scales are of such and those of all are of
    one other.

    Args:
        folder: where they are.
        names: of the codes.
        stated: the block of the config, where there is one.
    """
    scales = ((name, f"{name}{end}") for name in names for end in ("_scale_inv", "_scale"))
    grids = [
        (folder.dims(name)[-2:], folder.dims(scale)[-2:]) for name, scale in scales if scale in folder.tensors
    ]
    grids = [(dims, held) for dims, held in grids if len(held) == 2 and 1 not in held]

    def fits(grid: tuple[tuple[int, ...], tuple[int, ...]], block: tuple[int, int]) -> bool:
        (rows, columns), held = grid
        return held == (-(-rows // block[0]), -(-columns // block[1]))

    own = _size(stated)
    if not grids or (own is not None and any(fits(grid, own) for grid in grids)):
        return stated
    found = [block for block in product(POWERS, POWERS) if all(fits(grid, block) for grid in grids)]
    return [*found[0]] if len(found) == 1 else stated


def fp8_weight(
    folder: Folder, name: str, size: object, *, rounded: bool = False, scheme: str = "FP8"
) -> Fp8Weight:
    """The weight of a tensor of codes.

    Args:
        folder: where it is.
        name: of the codes.
        size: `weight_block_size` of the config, where there is one.
        rounded, scheme: see `Fp8Weight`.
    """
    parts = {"codes": name, **folder.parts(name, scales="_scale_inv", scale="_scale")}
    parts |= folder.parts(name.removesuffix("weight"), activations="input_scale", static="activation_scale")
    if "scale" in parts:
        parts.setdefault("scales", parts.pop("scale"))
    if "scales" not in parts:
        folder.dims(f"{name}_scale")
    folder.hold_dtype(parts["scales"], *FLOATS, "U8", "F8_E8M0")
    dims, held = folder.dims(name), folder.dims(parts["scales"])
    block = _block(dims, held, size, turned=folder.method == FBGEMM)
    if block is None:
        raise folder.misfit(
            parts["scales"], f"one scale, one a row, or one a block of {size} of {list(dims)}"
        )
    return Fp8Weight(
        name, dims, parts, code=folder.tensors[name].dtype, block=block, rounded=rounded, scheme=scheme
    )


def _block(
    dims: tuple[int, ...], held: tuple[int, ...], size: object, turned: bool
) -> tuple[int, int] | None:
    """Rows and columns that share a scale; None where the scales fit no such block.

    Args:
        dims: of the codes.
        held: of the scales.
        size: `weight_block_size` of the config, where there is one.
        turned: whether stacked matrices have their inputs as rows.
    """
    rows, columns = dims[-2:]
    stack = dims[:-2]
    if (block := _size(size)) is not None:
        high, wide = block
        if held == (*stack, -(-rows // high), -(-columns // wide)):
            return high, wide
    if held in ((), (1,), (1, 1), stack, (*stack, 1), (*stack, 1, 1)):
        return rows, columns
    # transformers, FbgemmFp8Llama4TextExperts: experts that lie as [in, out] have a scale for each output.
    if stack and (held == (*stack, 1, columns) or (turned and held == (*stack, columns, 1))):
        return rows, 1
    return (1, columns) if held in ((*stack, rows), (*stack, rows, 1)) else None


def _size(stated: object) -> tuple[int, int] | None:
    """The block that a config states; None where it states none."""
    match stated:
        case [int(high), int(wide)] if high > 0 and wide > 0:
            return high, wide
    return None


def _words(weight: Fp8Weight, stated: object) -> str:
    if weight.block == _size(stated):
        return f"blocks of {weight.block[0]} × {weight.block[1]}"
    if weight.grid == (1, 1):
        return "a scale for each tensor"
    return "a scale for each row" if weight.block[0] == 1 else "a scale for each column"
