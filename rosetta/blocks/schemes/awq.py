"""AWQ: four-bit codes packed along the outputs, `qweight` [C, R / 8] of int32, eight of them interleaved in a word;
scales and zero points by group of columns.

Arithmetic: AutoAWQ, utils/packing_utils.py: (q − zeros) · scales, in the scales' dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rosetta.blocks.schemes.affine import affine, scales_by_group
from rosetta.blocks.schemes.packed import (
    FLOATS,
    Folder,
    Packed,
    Packing,
    Parts,
    Way,
    codes,
    exchanged,
    in_runs,
    in_turn,
)
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("awq",)
BITS, RUN = 4, 8
# The nibble of a word in which each of eight rows lies; AutoAWQ, AWQ_REVERSE_ORDER.
PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


@dataclass(frozen=True)
class AwqWeight(Packed):
    """One weight."""

    turned = True
    zeros_packed = "along columns"
    row_places = PLACES

    def reordered(self, stored: Tensor) -> Tensor:
        """See `Packed`."""
        if self.way.order == "byte":
            return super().reordered(stored)
        held = in_runs(codes(stored, BITS), RUN)
        placed = torch.empty_like(held)
        placed[..., torch.tensor(PLACES)] = held
        nibbles = in_runs(placed.flatten(-2), 2)
        return (nibbles[..., 0] | nibbles[..., 1] << 4).contiguous().view(stored.dtype)

    def codes_by_row(self, stored: Tensor) -> None:
        """See `Packed`: eight rows share a word."""
        return None

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return "AWQ:INT4"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        shifts = [Way(zero_shift=shift) for shift in (-1, 1)]
        orders = [
            Way(swapped=swapped, order=order)
            for order in ("turn", "byte")
            for swapped in (("codes", "zeros"), ("codes",))
        ]
        return [*shifts, Way(scales="ignored"), Way(scales="transposed"), *orders]

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        q = self._unpacked(parts, "codes", start, stop)  # [rows, C]
        zero = self._unpacked(parts, "zeros", start, stop).int() + self.way.zero_shift  # [rows, G]
        scale = scales_by_group(parts, self.parts["scales"], self.way, start, stop)
        group = in_turn(self.columns, -(-self.columns // scale.shape[1]))
        return affine(q, zero, scale, group, reach=15)

    def _unpacked(self, parts: Parts, part: str, start: int, stop: int) -> Tensor:
        """Codes of the rows, uint8 [rows, …]: a word holds eight rows, or nibbles in turn where it is read so."""
        first, last = start // RUN, -(-stop // RUN)
        held = in_runs(codes(parts.columns(self.parts[part], first, last), BITS), RUN)
        if part in self.way.swapped and self.way.order == "byte":
            held = exchanged(held, 2)
        if part not in self.way.swapped or self.way.order == "byte":
            held = held[..., torch.tensor(PLACES)]
        return held.flatten(-2)[:, start - first * RUN : stop - first * RUN].T


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    folder.stated("bits", 4, 4)
    folder.stated("version", "gemm", "gemm", "GEMM")
    folder.stated("zero_point", True, True, False)  # AutoRound: zero points are there, all the middle one
    size = folder.config.get("group_size", 128)
    weights = []
    for stem in folder.stems(".qweight"):
        for part in (".qweight", ".qzeros"):
            folder.hold_dtype(stem + part, "I32")
        folder.hold_dtype(f"{stem}.scales", *FLOATS)
        columns, words = folder.matrix(f"{stem}.qweight")
        groups, rows = folder.matrix(f"{stem}.scales")
        if rows != words * RUN or not groups or columns % groups:
            raise folder.misfit(f"{stem}.scales", f"a row for each group and {words * RUN} columns")
        folder.hold(f"{stem}.qzeros", (groups, words))
        parts = folder.parts(stem, codes=".qweight", scales=".scales", zeros=".qzeros")
        weights.append(AwqWeight(f"{stem}.weight", (rows, columns), parts))
    return Packing(f"AWQ, 4 bits, groups of {size}", tuple(weights))


def unstated(folder: Folder) -> Iterator[Mapping[str, Any]]:
    """See `rosetta.blocks.schemes`: outputs are packed, eight in a word."""
    for stem in folder.stems(".qweight"):
        (columns, words), (groups, rows) = (folder.matrix(stem + part) for part in (".qweight", ".scales"))
        if words * RUN == rows and groups:
            yield {"quant_method": "awq", "bits": BITS, "group_size": columns // groups}
        return
