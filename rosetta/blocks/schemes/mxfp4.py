"""gpt-oss's MXFP4: experts' matrices as `NAME_blocks` [experts, R, C / 32, 16] of bytes, two four-bit floats in each,
the first in its low half, and `NAME_scales` [experts, R, C / 32], powers of two.

Arithmetic: transformers, integrations/mxfp4.py: 2^(scale − 127) · level, which bfloat16 holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from rosetta.blocks.four_bit import gaps_of
from rosetta.blocks.schemes.affine import applied
from rosetta.blocks.schemes.levels import FLOAT4, at_levels, mxfp4_blocks, nibbles
from rosetta.blocks.schemes.packed import Folder, Packed, Packing, Parts, Way

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("mxfp4",)
GROUP, BYTES = 32, 16
# A block's scale is a power of two: its largest magnitude lies anywhere in 4 … 8, two above the largest level.
GAPS = gaps_of(FLOAT4, beyond=2.0)


@dataclass(frozen=True)
class Mxfp4Weight(Packed):
    """The matrices of all experts, [experts, R, C]: rows are outputs, whatever transformers makes of them."""

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return "MXFP4:E2M1"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        return [Way(swapped=("codes",)), Way(scales="ignored"), Way(scales="transposed")]

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        groups = self.columns // GROUP
        code = nibbles(parts.rows(self.parts["codes"], start * groups, stop * groups), bool(self.way.swapped))
        scale = applied((self._exponents(parts, start, stop).reshape(-1, 1).float() - 127).exp2(), self.way)
        values, sigma = at_levels(code, FLOAT4, GAPS, scale, None)
        return values.view(stop - start, -1), sigma.view(stop - start, -1)

    @property
    def ggml(self) -> str | None:
        """See `Packed`."""
        return "MXFP4"

    def blocks(self, parts: Parts, start: int, stop: int) -> Tensor:
        """See `Packed`."""
        groups = self.columns // GROUP
        packed = parts.rows(self.parts["codes"], start * groups, stop * groups)
        exponents = parts.rows(self.parts["scales"], start, stop).reshape(-1, 1)
        return mxfp4_blocks(packed, exponents).view(stop - start, -1)

    def _exponents(self, parts: Parts, start: int, stop: int) -> Tensor:
        """Scales of the rows, [rows, groups]; read across where the way is that."""
        name, rows = self.parts["scales"], self.dims[-2]
        if self.way.scales != "transposed":
            return parts.rows(name, start, stop)
        first, last = start // rows, -(-stop // rows)
        whole = parts.rows(name, first * rows, last * rows).reshape(last - first, -1, rows)
        turned = whole.transpose(1, 2).reshape((last - first) * rows, -1)
        return turned[start - first * rows : stop - first * rows]


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    weights = []
    for stem in folder.stems("_blocks"):
        dims = folder.dims(f"{stem}_blocks")
        if len(dims) != 4 or dims[-1] != BYTES:
            raise folder.misfit(f"{stem}_blocks", f"four dims, the last one {BYTES}")
        folder.hold_dtype(f"{stem}_blocks", "U8")
        folder.hold_dtype(f"{stem}_scales", "U8", "F8_E8M0")
        folder.hold(f"{stem}_scales", dims[:-1])
        shape = (*dims[:2], prod(dims[2:]) * 2)
        weights.append(Mxfp4Weight(stem, shape, folder.parts(stem, codes="_blocks", scales="_scales")))
    return Packing("MXFP4, four-bit floats in groups of 32", tuple(weights))
