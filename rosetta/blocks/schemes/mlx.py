"""MLX: codes of 2 to 8 bits packed into rows of uint32, the lowest bits first, with a scale and a bias for each group
of columns; modules may be quantised each in its own way, embeddings too.

Arithmetic: mlx, backend/cpu/quantized.cpp: scale · q + bias, each step in the scales' dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.blocks.fields import SQRT12, unit
from rosetta.blocks.schemes.affine import added, read_scales
from rosetta.blocks.schemes.packed import FLOATS, Folder, Packed, Packing, Parts, Way, codes, exchanged
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("mlx",)
BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (16, 32, 64, 128)  # mlx.core.quantize


@dataclass(frozen=True)
class MlxWeight(Packed):
    """One weight.

    Args:
        bits: of a code.
        group: columns that share a scale.
    """

    bits: int = 4
    group: int = 64

    @property
    def code_bits(self) -> int:
        """See `Packed`."""
        return self.bits

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return f"MLX:INT{self.bits}"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        found = [Way(zero_shift=1), Way(zero_shift=-1), Way(scales="ignored"), Way(scales="transposed")]
        return [*found, Way(swapped=("codes",))] if self.bits == 4 else found

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        q = codes(parts.rows(self.parts["codes"], start, stop), self.bits)[:, : self.columns]
        if self.way.swapped:
            q = exchanged(q, 2)
        across = self.way.scales == "transposed"
        held = (0, None) if across else (start, stop)
        rows = slice(start, stop) if across else slice(None)
        way = Way() if self.way.scales == "ignored" else self.way
        scale = read_scales(parts.rows(self.parts["scales"], *held), way, rows)
        bias = read_scales(parts.rows(self.parts["biases"], *held), way, rows)
        if self.way.scales == "ignored":  # a bias is a zero point times the scale
            bias, scale = (
                torch.where(scale == 0, 0.0, bias.float() / scale.float()),
                torch.ones_like(scale).float(),
            )
        dtype = scale.dtype
        scale, bias, step = scale.float(), bias.float(), scale.float().abs()
        if dtype != torch.float32:  # both were rounded after the codes had been made
            step = torch.hypot(step, unit(scale, dtype) * ((1 << self.bits) - 1))
            step = torch.hypot(step, unit(bias, dtype))
        scale, bias, step = (x.repeat_interleave(self.group, dim=1) for x in (scale, bias, step / SQRT12))
        product = (q.float() - self.way.zero_shift).mul_(scale)
        values = (product.to(dtype).float() + bias).to(dtype).float()
        if dtype != torch.float32:
            step = added(added(step, unit(product, dtype)), unit(values, dtype))
        return values, step


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    weights = []
    told = {**folder.config, **_told(folder)}
    for stem in folder.stems(".scales"):
        own = folder.config.get(stem)
        stated = {**folder.config, **own} if isinstance(own, Mapping) else told
        if stated.get("mode", "affine") != "affine":
            raise folder.unsupported(f"states mode {stated['mode']!r:.40} for MLX")
        bits, group = stated.get("bits"), stated.get("group_size")
        if bits not in BITS or not isinstance(group, int) or group < 1:
            raise folder.unsupported(f"states {bits!r:.20} bits in groups of {group!r:.20} for MLX")
        held = folder.dims(f"{stem}.scales")
        if len(held) < 2:
            raise folder.misfit(f"{stem}.scales", "a row for each row of it")
        rows, columns = held[:-1], held[-1] * group
        folder.hold(f"{stem}.weight", (*rows, columns * bits // 32))
        folder.hold(f"{stem}.biases", held)
        folder.hold_dtype(f"{stem}.weight", "U32")
        folder.hold_dtype(f"{stem}.scales", *FLOATS)
        folder.hold_dtype(f"{stem}.biases", folder.tensors[f"{stem}.scales"].dtype)
        parts = folder.parts(stem, codes=".weight", scales=".scales", biases=".biases")
        weights.append(MlxWeight(f"{stem}.weight", (*rows, columns), parts, bits=bits, group=group))
    kinds = dict.fromkeys(f"{weight.bits} bits in groups of {weight.group}" for weight in weights)
    return Packing(f"MLX, {' and '.join(kinds) or 'nothing packed'}", tuple(weights))


def _told(folder: Folder) -> dict[str, int]:
    """Bits and group that all modules have that state none of their own, where more of them are then as wide as norms
    are than by what the config states of all; else nothing.

    Words and scales tell the product of both alone. Most modules read what a norm gives.
    """
    beside = (s for s in folder.stems(".scales") if f"{s}.weight" in folder.tensors)
    stems = [s for s in beside if not isinstance(folder.config.get(s), Mapping)]
    dims = [(folder.dims(f"{stem}.scales")[-1], folder.dims(f"{stem}.weight")[-1]) for stem in stems]
    norms = {
        entry.dims[0] for name, entry in folder.tensors.items() if "norm" in name and len(entry.dims) == 1
    }
    stated = folder.config.get("bits"), folder.config.get("group_size")

    def as_wide(bits: int, group: int) -> int:
        if any(groups * group * bits != 32 * words for groups, words in dims):
            return 0
        return sum(groups * group in norms for groups, _ in dims)

    found = {(bits, group): as_wide(bits, group) for bits in BITS for group in GROUPS}
    best = max(found, key=lambda both: (found[both], both == stated))
    if best == stated or found[best] == 0 or [*found.values()].count(found[best]) > 1:
        return {}
    return {"bits": best[0], "group_size": best[1]}
