"""GPTQ: codes packed along the inputs, `qweight` [C · bits / 32, R] of int32; scales and zero points by group of
columns, in turn or as `g_idx` says.

Version 1 stores each zero point less one, version 2 as it is (`checkpoint_format`: `gptq`, `gptq_v2`).
Arithmetic: GPTQModel, qlinear/torch.py: scales[g_idx] · (q − zeros[g_idx]), in the scales' dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
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
    in_turn,
)
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("gptq",)
BITS = (2, 3, 4, 8)
FORMATS = ("gptq", "gptq_v2")
RUN = 32  # codes that fill whole words of 32 bits, whatever their width


@dataclass(frozen=True)
class GptqWeight(Packed):
    """One weight.

    Args:
        bits: of a code.
        stored_less: what is subtracted from a zero point when it is stored.
    """

    bits: int = 4
    stored_less: int = 1
    turned = True
    zeros_packed = "along columns"

    @property
    def code_bits(self) -> int:
        """See `Packed`."""
        return self.bits

    def places(self, parts: Parts, start: int, stop: int, groups: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        return torch.arange(start, stop), self._groups(parts, groups)

    def zero_point(self, stored: int) -> int:
        """See `Packed`: within the bits of a code, of either version."""
        return stored + self.stored_less & (1 << self.bits) - 1

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return f"GPTQ:INT{self.bits}"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        found = [Way(zero_shift=-1), Way(zero_shift=1), Way(scales="ignored"), Way(scales="transposed")]
        if 32 % self.bits == 0 and self.bits < 8:
            found += [Way(swapped=parts) for parts in (("codes", "zeros"), ("codes",))]
        return [*found, Way(in_order=True)] if "index" in self.parts else found

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        q = self._unpacked("codes", parts.columns(self.parts["codes"], start, stop).T)[:, : self.columns]
        scale = scales_by_group(parts, self.parts["scales"], self.way, start, stop)
        zero = self._zeros(parts, start, stop)
        return affine(q, zero, scale, self._groups(parts, scale.shape[1]), reach=(1 << self.bits) - 1)

    def _zeros(self, parts: Parts, start: int, stop: int) -> Tensor:
        """Zero points of the rows, [rows, G]: packed along the rows, so that whole runs of them are read."""
        first, last = start // RUN, -(-stop // RUN)
        words = self.bits * RUN // 32
        width = -(-self.rows * self.bits // 32)
        packed = parts.columns(self.parts["zeros"], first * words, min(last * words, width))
        stored = self._unpacked("zeros", packed)[:, start - first * RUN : stop - first * RUN]
        # A reader of the other version shifts within the bits of a code, too.
        return ((stored.int() + self.stored_less + self.way.zero_shift) & ((1 << self.bits) - 1)).T

    def _unpacked(self, part: str, words: Tensor) -> Tensor:
        found = codes(words, self.bits)
        return exchanged(found, 8 // self.bits) if part in self.way.swapped else found

    def _groups(self, parts: Parts, count: int) -> Tensor:
        if "index" in self.parts and not self.way.in_order:
            return parts.rows(self.parts["index"]).long()
        return in_turn(self.columns, -(-self.columns // count))


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    bits = folder.stated("bits", None, *BITS)
    form = folder.stated("checkpoint_format", "gptq", *FORMATS)
    size = folder.config.get("group_size", -1)
    less = 1 if form == "gptq" else 0
    endings = {"codes": ".qweight", "scales": ".scales", "zeros": ".qzeros", "index": ".g_idx"}
    found = []
    for stem in folder.stems(".qweight"):
        parts = folder.parts(stem, **endings)
        own = _bits(folder, stem, bits)
        dims = _dims(folder, stem, own)
        found.append(GptqWeight(f"{stem}.weight", dims, parts, bits=own, stored_less=less))
    turned = ", columns in order of activation" if folder.config.get("desc_act") else ""
    groups = f"groups of {size}" if isinstance(size, int) and size > 0 else "one group a row"
    return Packing(
        f"GPTQ, {bits} bits, {groups}, zero points of {'version 1' if less else 'version 2'}{turned}",
        tuple(found),
    )


def _bits(folder: Folder, stem: str, stated: int) -> int:
    """Bits of a weight: modules may have others than the rest (`dynamic`; `extra_config` of AutoRound), and the group
    index counts the columns, as the words of zero points do the rows."""
    words, rows = folder.matrix(f"{stem}.qweight")
    if f"{stem}.g_idx" in folder.tensors:
        counted, held = prod(folder.dims(f"{stem}.g_idx")), words
    else:
        counted, held = rows, folder.matrix(f"{stem}.qzeros")[1]
    return next((bits for bits in BITS if counted and -(-counted * bits // 32) == held), stated)


def _dims(folder: Folder, stem: str, bits: int) -> tuple[int, int]:
    """(R, C) of a weight, whose tensors are held to each other."""
    for part in (".qweight", ".qzeros", *([".g_idx"] if f"{stem}.g_idx" in folder.tensors else [])):
        folder.hold_dtype(stem + part, "I32")
    folder.hold_dtype(f"{stem}.scales", *FLOATS)
    words, rows = folder.matrix(f"{stem}.qweight")
    columns = words * 32 // bits
    groups, width = folder.matrix(f"{stem}.scales")
    if width != rows or not 0 < groups <= max(1, columns):
        raise folder.misfit(f"{stem}.scales", f"a row for each group and {rows} columns")
    folder.hold(f"{stem}.qzeros", (groups, -(-rows * bits // 32)))
    if f"{stem}.g_idx" in folder.tensors:
        (columns,) = folder.dims(f"{stem}.g_idx") if len(folder.dims(f"{stem}.g_idx")) == 1 else (columns,)
        folder.hold(f"{stem}.g_idx", (columns,))
    if -(-columns * bits // 32) != words:
        raise folder.misfit(f"{stem}.qweight", f"{-(-columns * bits // 32)} rows")
    return rows, columns


def unstated(folder: Folder) -> Iterator[Mapping[str, Any]]:
    """See `rosetta.blocks.schemes`: inputs are packed, and the zero points of a group say in how many bits."""
    for stem in folder.stems(".qweight"):
        (words, rows), (groups, width) = (folder.matrix(stem + part) for part in (".qweight", ".scales"))
        zeros = folder.matrix(f"{stem}.qzeros")[1]
        for bits in BITS if rows == width and groups else ():
            if -(-rows * bits // 32) == zeros:
                config = {"quant_method": "gptq", "bits": bits, "group_size": words * 32 // bits // groups}
                yield from ({**config, "checkpoint_format": form} for form in FORMATS)
        return
