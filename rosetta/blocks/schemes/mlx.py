"""MLX: codes of 2 to 8 bits packed into rows of uint32, the lowest bits first, with a scale and a bias for each group
of columns, or floats of four and eight bits with a scale in a byte (`mode`: `mxfp4`, `mxfp8`, `nvfp4`); modules may be
quantised each in its own way, embeddings too.

Arithmetic: mlx, backend/cpu/quantized.cpp: scale · q + bias, each step in the scales' dtype; of floats scale · level in
bfloat16, which holds it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.blocks.fields import SQRT12, unit
from rosetta.blocks.schemes.affine import added, read_scales
from rosetta.blocks.schemes.compressed_tensors import Float4Weight
from rosetta.blocks.schemes.fp8 import Fp8Weight
from rosetta.blocks.schemes.packed import FLOATS, Folder, Packed, Packing, Parts, Way, codes, exchanged
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("mlx",)
BITS = (2, 3, 4, 5, 6, 8)
MODES = {"mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}  # bits and group, mlx.core.quantize
GROUPS = (16, 32, 64, 128)  # mlx.core.quantize
DEFAULT_GROUP = 64  # of it; mlx_lm's mixed recipes state null


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


@dataclass(frozen=True)
class _Viewed:
    """Parts of which some are read as another dtype: words of codes, and floats that files call bytes.

    Args:
        stored: the folder's.
        dtypes: by name.
    """

    stored: Parts
    dtypes: Mapping[str, torch.dtype]

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """See `Parts`."""
        found = self.stored.rows(name, start, stop)
        return found.contiguous().view(self.dtypes[name]) if name in self.dtypes else found

    def columns(self, name: str, start: int, stop: int) -> Tensor:
        """See `Parts`: no scheme of MLX asks for some."""
        return self.stored.columns(name, start, stop)


@dataclass(frozen=True)
class MlxFloat4Weight(Float4Weight):
    """Four-bit floats, eight in a word."""

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        # Others are floats in what the file calls bytes, which nobody takes for one.
        powers_of_two = self.group == 32
        return [way for way in super().ways if powers_of_two or way.scales != "ignored"]

    def scales_by_row(self, stored: Tensor) -> Tensor | None:
        """See `Packed`."""
        return super().scales_by_row(stored.view(torch.float8_e4m3fn) if self.group == 16 else stored)

    def _viewed(self, parts: Parts) -> _Viewed:
        scales = torch.float8_e4m3fn if self.group == 16 else torch.uint8
        return _Viewed(parts, {self.parts["codes"]: torch.uint8, self.parts["scales"]: scales})

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        return super().numbers(self._viewed(parts), start, stop)

    def blocks(self, parts: Parts, start: int, stop: int) -> Tensor:
        """See `Packed`."""
        return super().blocks(self._viewed(parts), start, stop)


@dataclass(frozen=True)
class MlxFloat8Weight(Fp8Weight):
    """Floats of eight bits, four in a word."""

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        return super().numbers(_Viewed(parts, {self.parts["codes"]: torch.float8_e4m3fn}), start, stop)


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    weights: list[Packed] = []
    told = {**folder.config, **_told(folder)}
    for stem in folder.stems(".scales"):
        own = folder.config.get(stem)
        stated = {**folder.config, **own} if isinstance(own, Mapping) else told
        mode = stated.get("mode", "affine")
        if mode in MODES:
            weights.append(_floats(folder, stem, mode))
            continue
        if mode != "affine":
            raise folder.unsupported(f"states mode {mode!r:.40} for MLX")
        bits, group = stated.get("bits"), stated.get("group_size")
        group = DEFAULT_GROUP if group is None else group
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
    kinds = dict.fromkeys(map(_words, weights))
    return Packing(f"MLX, {' and '.join(kinds) or 'nothing packed'}", tuple(weights))


def _words(weight: Packed) -> str:
    if isinstance(weight, MlxWeight):
        return f"{weight.bits} bits in groups of {weight.group}"
    return f"{weight.dtype.removeprefix('MLX:')} floats"


def _floats(folder: Folder, stem: str, mode: str) -> Packed:
    """A weight of floats of four or eight bits."""
    bits, group = MODES[mode]
    held = folder.dims(f"{stem}.scales")
    if len(held) < 2:
        raise folder.misfit(f"{stem}.scales", "a row for each row of it")
    dims = (*held[:-1], held[-1] * group)
    folder.hold(f"{stem}.weight", (*held[:-1], dims[-1] * bits // 32))
    folder.hold_dtype(f"{stem}.weight", "U32")
    folder.hold_dtype(f"{stem}.scales", "U8")
    parts = folder.parts(stem, codes=".weight", scales=".scales")
    if bits == 8:
        return MlxFloat8Weight(f"{stem}.weight", dims, parts, block=(1, group), scheme="MLX")
    return MlxFloat4Weight(f"{stem}.weight", dims, parts, group=group, divided=False, scheme="MLX")


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
