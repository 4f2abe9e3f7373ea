"""torchao, where safetensors holds plain tensors: integers in bytes with a scale and a zero point a row or group, or
floats of eight bits with a scale, each in the tensors `_weight_qdata`, `_weight_scale` and `_weight_zero_point`
(torchao, prototype/safetensors; Int8Tensor, IntxUnpackedToInt8Tensor, Float8Tensor).

Arithmetic: torchao, quantization/quant_primitives.py, _dequantize_affine: (code − zero point) · scale, and
_dequantize_affine_float8: code · scale, both rounded to the dtype that the weight had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rosetta.blocks.fields import unit
from rosetta.blocks.schemes.affine import added, affine, read_scales
from rosetta.blocks.schemes.fp8 import CODES as FLOAT_CODES
from rosetta.blocks.schemes.fp8 import Fp8Weight
from rosetta.blocks.schemes.packed import FLOATS, Folder, Packed, Packing, Parts, Way, in_turn
from rosetta.lazily import TorchDtypes, torch

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("torchao",)
CODES, SCALE, ZERO = "._weight_qdata", "._weight_scale", "._weight_zero_point"
KINDS = ("int8", "intx", "float8")  # how the configs begin whose weights are plain tensors
TYPES = TorchDtypes({"F32": "float32", "F16": "float16", "BF16": "bfloat16"})


@dataclass(frozen=True)
class GroupWeight(Packed):
    """Integers with a scale and a zero point a group of columns, all of a row as a rule.

    Args:
        groups: of each row.
        rounded: the dtype of the product, as files name it.
    """

    groups: int = 1
    rounded: str = "BF16"

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return "TORCHAO:INT8"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        shifts = [Way(zero_shift=shift) for shift in (1, -1)]
        turned = [Way(scales="transposed")] * (self.groups > 1)
        return [*shifts, Way(scales="ignored"), Way(scales="divided by"), *turned]

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        q = parts.rows(self.parts["codes"], start, stop)
        zero = parts.rows(self.parts["zeros"], start, stop).int().view(-1, self.groups) + self.way.zero_shift
        stored = parts.rows(self.parts["scales"]).float().view(-1, self.groups)
        scale = read_scales(stored, self.way, slice(start, stop))
        groups = in_turn(self.columns, self.columns // self.groups)
        return _rounded(*affine(q, zero, scale, groups, reach=255), self.rounded)


@dataclass(frozen=True)
class FloatWeight(Fp8Weight):
    """Floats of eight bits; `product` is the dtype of code times scale, as files name it."""

    product: str = "BF16"

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        return _rounded(*super().numbers(parts, start, stop), self.product)


def _rounded(values: Tensor, sigma: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Values in a dtype, and their standard deviation with its rounding."""
    dtype = TYPES[name]
    if dtype == torch.float32:
        return values, sigma
    values = values.to(dtype).float()
    return values, added(sigma.contiguous(), unit(values, dtype))


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    kind = _kind(folder.config.get("quant_type"))
    if kind is not None and not kind.lower().startswith(KINDS):
        raise folder.unsupported(f"is quantised by torchao's {kind:.60}")
    floats = (
        entry.dtype
        for name, entry in folder.tensors.items()
        if entry.dtype in FLOATS and not name.endswith(SCALE)
    )
    rounded = next(floats, "F32")  # what was left as it was has the dtype that the others had
    stems = dict.fromkeys(stem for ending in (CODES, SCALE, ZERO) for stem in folder.stems(ending))
    weights = tuple(_weight(folder, stem, rounded) for stem in stems)
    if not weights:
        raise folder.unsupported("holds no codes of torchao's as plain tensors")
    held = dict.fromkeys("float8" if isinstance(weight, FloatWeight) else "int8" for weight in weights)
    return Packing(f"torchao, {' and '.join(held)} weights", weights)


def _kind(stated: Any) -> str | None:
    """The name of the config that torchao quantised by: `Int8WeightOnlyConfig`, before version 1 `int8_weight_only`."""
    found = stated.get("default") if isinstance(stated, Mapping) else stated
    found = found.get("_type") if isinstance(found, Mapping) else found
    return found if isinstance(found, str) else None


def unstated(folder: Folder) -> Iterator[Mapping[str, Any]]:
    """See `rosetta.blocks.schemes`."""
    if any(folder.stems(CODES)):
        yield {"quant_method": METHODS[0]}


def _weight(folder: Folder, stem: str, rounded: str) -> GroupWeight | FloatWeight:
    rows, columns = folder.matrix(stem + CODES)
    folder.hold_dtype(stem + CODES, "I8", *FLOAT_CODES)
    folder.hold_dtype(stem + SCALE, *FLOATS)
    if folder.tensors[stem + CODES].dtype in FLOAT_CODES:
        return _floats(folder, stem, rounded)
    folder.hold_dtype(stem + ZERO, "I8", "I32")
    height, groups = folder.matrix(stem + SCALE)
    if height != rows or not groups or columns % groups:
        raise folder.misfit(stem + SCALE, f"{rows} rows of groups of {columns} columns")
    folder.hold(stem + ZERO, (rows, groups))
    parts = folder.parts(stem, codes=CODES, scales=SCALE, zeros=ZERO)
    return GroupWeight(f"{stem}.weight", (rows, columns), parts, groups=groups, rounded=rounded)


def _floats(folder: Folder, stem: str, rounded: str) -> FloatWeight:
    """A weight of floats, whose scales are of the tensor, of rows or of blocks."""
    rows, columns = folder.matrix(stem + CODES)
    high, wide = folder.matrix(stem + SCALE)
    if not high or not wide or rows % high or columns % wide:
        raise folder.misfit(stem + SCALE, f"a scale for each of equal blocks of {[rows, columns]}")
    return FloatWeight(
        f"{stem}.weight",
        (rows, columns),
        folder.parts(stem, codes=CODES, scales=SCALE),
        code=folder.tensors[stem + CODES].dtype,
        block=(rows // high, columns // wide),
        scheme="TORCHAO",
        product=rounded,
    )
