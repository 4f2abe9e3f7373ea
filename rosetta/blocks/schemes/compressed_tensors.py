"""compressed-tensors (vLLM, llm-compressor): integers of eight bits (`weight`), of one to eight packed into int32 along
the inputs (`weight_packed`, `weight_shape`), FP8, and four-bit floats in groups of 16 (NVFP4) and 32 (MXFP4).

Arithmetic: compressed_tensors, lifecycle/forward_helpers.py: (q − zero) · scale in the scales' dtype, a scale being
divided by `weight_global_scale` first; NVFP4 and MXFP4 are rounded to bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rosetta.blocks.fields import spacing
from rosetta.blocks.four_bit import gaps_of
from rosetta.blocks.schemes.affine import affine, applied, read_scales
from rosetta.blocks.schemes.fp8 import CODES, fp8_weight, told_size
from rosetta.blocks.schemes.levels import FLOAT4, at_levels, mxfp4_blocks, nibbles
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

METHODS = ("compressed-tensors", "compressed_tensors")
FORMATS = (
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "pack-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
)
RUN = 32


@dataclass(frozen=True)
class IntWeight(Packed):
    """Integers, packed or not.

    Args:
        bits: of a code.
        packed: whether they lie in words of 32 bits, more by half of their range than they are.
    """

    bits: int = 8
    packed: bool = False

    @property
    def zeros_packed(self) -> Literal["", "along rows"]:  # type: ignore[override]
        """See `Packed`."""
        return "along rows" if self.packed else ""

    @property
    def code_bits(self) -> int:
        """See `Packed`."""
        return self.bits

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return f"CT:INT{self.bits}"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        found = [Way(zero_shift=-1), Way(zero_shift=1), Way(scales="ignored"), Way(scales="transposed")]
        if self.packed and self.bits == 4:
            found += [Way(swapped=("codes", "zeros"))] * ("zeros" in self.parts) + [Way(swapped=("codes",))]
        return [*found, Way(in_order=True)] if "index" in self.parts else found

    def places(self, parts: Parts, start: int, stop: int, groups: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        row, group = super().places(parts, start, stop, groups)
        if "index" in self.parts and not self.way.in_order:
            group = parts.rows(self.parts["index"]).long()
        return row, group

    @property
    def half(self) -> int:
        """What a stored code is more than it stands for."""
        return 1 << (self.bits - 1) if self.packed else 0

    def zero_point(self, stored: int) -> int:
        """See `Packed`."""
        return stored - self.half

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        held = parts.rows(self.parts["codes"], start, stop)
        q = self._unpacked("codes", held)[:, : self.columns].int() - self.half if self.packed else held
        scale = self._by_row(parts.rows(self.parts["scales"]))
        zero = self._zeros(parts, start, stop, scale.shape[1])
        scale = read_scales(scale, self.way, slice(start, stop) if len(scale) > 1 else slice(None))
        group = in_turn(self.columns, -(-self.columns // scale.shape[1]))
        if "index" in self.parts and not self.way.in_order:
            group = parts.rows(self.parts["index"]).long()
        return affine(q, zero, scale, group, reach=1 << self.bits, exact_scale=True)

    def _by_row(self, numbers: Tensor) -> Tensor:
        """[R, G], or [1, G] of all rows."""
        return numbers.reshape(-1, 1) if numbers.dim() < 2 else numbers

    def _zeros(self, parts: Parts, start: int, stop: int, groups: int) -> Tensor | None:
        shift = self.way.zero_shift
        if "zeros" not in self.parts:
            return torch.full((1, groups), shift) if shift else None
        if not self.packed:
            zero = self._by_row(parts.rows(self.parts["zeros"])).int()
            return (zero[start:stop] if len(zero) > 1 else zero) + shift
        words, first = self.bits * RUN // 32, start // RUN
        packed = parts.rows(self.parts["zeros"], first * words, -(-stop // RUN) * words)
        stored = self._unpacked("zeros", packed.T)[:, start - first * RUN : stop - first * RUN]
        return stored.T.int() - self.half + shift

    def _unpacked(self, part: str, words: Tensor) -> Tensor:
        found = codes(words, self.bits)
        return exchanged(found, 2) if part in self.way.swapped else found


@dataclass(frozen=True)
class Float4Weight(Packed):
    """Four-bit floats, two in a byte, the first in its low half.

    Args:
        group: columns that share a scale: of 16 it is an E4M3 (NVFP4), of 32 a power of two (MXFP4).
        divided: whether scales are divided by the one of the whole tensor; else they are multiplied by it.
        scheme: whose dtype this is.
    """

    group: int = 16
    divided: bool = True
    scheme: str = "CT"

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return f"{self.scheme}:{'NVFP4' if self.group == 16 else 'MXFP4'}"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        found = [Way(swapped=("codes",)), Way(scales="ignored"), Way(scales="transposed")]
        return [*found, Way(scales="divided by")] if "all" in self.parts else found

    @property
    def ggml(self) -> str | None:
        """See `Packed`."""
        return "MXFP4" if self.group == 32 else None

    def blocks(self, parts: Parts, start: int, stop: int) -> Tensor:
        """See `Packed`."""
        packed = parts.rows(self.parts["codes"], start, stop).reshape(-1, 16)
        exponents = parts.rows(self.parts["scales"], start, stop).reshape(-1, 1)
        return mxfp4_blocks(packed, exponents).view(stop - start, -1)

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        code = nibbles(parts.rows(self.parts["codes"], start, stop), bool(self.way.swapped))
        stored = parts.rows(self.parts["scales"])
        if self.way.scales == "transposed":
            stored = stored.reshape(stored.shape[1], stored.shape[0]).T
        stored = stored[start:stop]
        if self.group == 32:
            scale, step, beyond = (stored.float() - 127).exp2(), None, 2.0
        else:
            scale, beyond = stored.float(), 0.0
            step = spacing(scale.clone(), 3, 2.0**-9)
        if "all" in self.parts:
            way = self.way if self.way.scales == "divided by" else Way()
            whole = applied(parts.rows(self.parts["all"]).float().reshape(()), way)
            join = torch.div if self.divided else torch.mul
            scale, step = join(scale, whole), None if step is None else join(step, whole)
        if self.way.scales == "ignored":
            scale, step = torch.ones_like(scale), None
        spread = scale.repeat_interleave(self.group, dim=1)
        steps = None if step is None else step.repeat_interleave(self.group, dim=1)
        return at_levels(code, FLOAT4, gaps_of(FLOAT4, beyond), spread, steps, torch.bfloat16)


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    groups = _groups(folder)
    structures = [list(s) for w in groups if isinstance(s := w.get("block_structure"), list)]
    floats = [name for name, entry in folder.tensors.items() if entry.dtype in CODES]
    size = told_size(folder, floats, structures[0] if structures else None)
    found = (_weight(folder, name, groups, size) for name in folder.tensors)
    weights = [weight for weight in found if weight is not None]
    words = dict.fromkeys(map(_words, groups))
    return Packing(f"compressed-tensors, {' and '.join(words) or 'nothing packed'}", tuple(weights))


def unstated(folder: Folder) -> Iterator[Mapping[str, Any]]:
    """See `rosetta.blocks.schemes`: codes in words say how wide they are, and those in bytes are floats."""
    for stem in folder.stems(".weight_packed"):
        name, group = f"{stem}.weight_packed", {"num_bits": 4, "type": "float"}
        if folder.tensors[name].dtype == "I32":
            words, columns = folder.matrix(name)[1], folder.numbers(f"{stem}.weight_shape")[-1]
            bits = next((bits for bits in range(2, 9) if -(-columns * bits // 32) == words), 4)
            group = {"num_bits": bits, "type": "int"}
        yield {"quant_method": METHODS[0], "config_groups": {"group_0": {"weights": group}}}
        return


def _groups(folder: Folder) -> list[Mapping[str, Any]]:
    """What the config says of the weights of each of its groups."""
    known = (*FORMATS, "mixed-precision", "dense")
    folder.stated("format", "dense", *known)
    found = folder.config.get("config_groups")
    groups = [g for g in found.values() if isinstance(g, Mapping)] if isinstance(found, Mapping) else []
    for group in groups:
        if group.get("format") not in (None, *known):
            raise folder.unsupported(f"states format {group['format']!r:.60}")
    sparse = folder.config.get("sparsity_config")
    if isinstance(sparse, Mapping) and sparse.get("format", "dense") != "dense":
        raise folder.unsupported(f"keeps sparse weights as {sparse['format']!r:.60}")
    if folder.config.get("transform_config"):
        raise folder.unsupported("turns its weights by a transform_config")
    return [w for group in groups if isinstance(w := group.get("weights"), Mapping)]


def _weight(folder: Folder, name: str, groups: Sequence[Mapping[str, Any]], size: object) -> Packed | None:
    """The weight whose codes a tensor holds; None where it holds none."""
    entry = folder.tensors[name]
    if name.endswith(".weight_packed"):
        stem = name.removesuffix("_packed")
        return _float4(folder, stem) if entry.dtype == "U8" else _packed_int(folder, stem, groups)
    if not name.endswith(".weight") or f"{name}_scale" not in folder.tensors:
        return None
    if entry.dtype in CODES:
        return fp8_weight(folder, name, size, rounded=True, scheme="CT")
    if entry.dtype != "I8":
        raise folder.unsupported(f"keeps {name} as {entry.dtype} with a scale")
    dims = folder.matrix(name)
    parts = folder.parts(name, scales="_scale", zeros="_zero_point", index="_g_idx")
    parts |= _beside(folder, name)
    _hold_scales(folder, f"{name}_scale", dims)
    return IntWeight(name, dims, {"codes": name, **parts})


def _packed_int(folder: Folder, stem: str, groups: Sequence[Mapping[str, Any]]) -> IntWeight:
    folder.hold_dtype(f"{stem}_packed", "I32")
    rows, words = folder.matrix(f"{stem}_packed")
    shape = folder.numbers(f"{stem}_shape")
    if len(shape) != 2 or shape[0] != rows:
        raise folder.misfit(f"{stem}_shape", f"two numbers, the first one {rows}")
    columns = int(shape[1])
    stated = [w["num_bits"] for w in groups if w.get("num_bits") in range(1, 9) and w.get("type") != "float"]
    room = [bits for bits in range(1, 9) if -(-columns * bits // 32) == words]
    fitting = [bits for bits in room if bits in stated] or room  # what the config denies the words may tell
    if len(fitting) != 1:
        raise folder.misfit(f"{stem}_packed", f"rows of {columns} codes of {stated} bits")
    parts = folder.parts(
        stem, codes="_packed", scales="_scale", zeros="_zero_point", shape="_shape", index="_g_idx"
    )
    _hold_scales(folder, f"{stem}_scale", (rows, columns))
    return IntWeight(stem, (rows, columns), {**parts, **_beside(folder, stem)}, bits=fitting[0], packed=True)


def _float4(folder: Folder, stem: str) -> Float4Weight:
    rows, half = folder.matrix(f"{stem}_packed")
    folder.hold_dtype(f"{stem}_scale", "F8_E4M3", "U8", "F8_E8M0")
    group = 16 if f"{stem}_global_scale" in folder.tensors else 32
    folder.hold(f"{stem}_scale", (rows, 2 * half // group))
    parts = folder.parts(stem, codes="_packed", scales="_scale", all="_global_scale")
    return Float4Weight(stem, (rows, 2 * half), {**parts, **_beside(folder, stem)}, group=group)


def _hold_scales(folder: Folder, name: str, dims: tuple[int, int]) -> None:
    """Refuse scales that are neither of the tensor, nor of each row, nor of groups of columns."""
    folder.hold_dtype(name, *FLOATS)
    held, (rows, columns) = folder.dims(name), dims
    groups = held[1] if len(held) == 2 else 1
    if held not in ((), (1,), (1, 1), (rows,), (rows, groups)) or not groups or groups > columns:
        raise folder.misfit(name, f"one scale, one a row, or one a group of columns of {list(dims)}")


def _beside(folder: Folder, name: str) -> dict[str, str]:
    """What belongs to the activations of the module: nothing of the weight."""
    module = name.removesuffix("weight")
    endings = ("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point")
    return folder.parts(module, **{ending: ending for ending in endings})


def _words(weights: Mapping[str, Any]) -> str:
    """What people call a group's weights."""
    kind = {"int": "INT", "float": "FP"}.get(str(weights.get("type", "int")), str(weights.get("type")))
    size, strategy = weights.get("group_size"), weights.get("strategy")
    shared = f"groups of {size}" if isinstance(size, int) and size > 0 else f"a scale for each {strategy}"
    return f"{kind}{weights.get('num_bits')}, {shared}"
