"""bitsandbytes: NF4 and FP4, two codes in a byte with the first in its high half, in blocks of the flattened weight;
the largest magnitudes of the blocks may be quantised themselves (`nested_absmax`). And LLM.int8's integers, one scale
a row.

Arithmetic: bitsandbytes, backends/default/ops.py: level · absmax in float32, rounded to the dtype that the weight had;
absmax = level₂ · absmax₂ + offset; q · SCB / 127 in float32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.blocks.fields import SQRT12
from rosetta.blocks.four_bit import gaps_of
from rosetta.blocks.schemes.affine import applied
from rosetta.blocks.schemes.levels import at_levels, nibbles
from rosetta.blocks.schemes.packed import FLOATS, Folder, Packed, Packing, Parts, Way
from rosetta.lazily import TorchDtypes, torch

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("bitsandbytes",)
STATE = ".quant_state.bitsandbytes__"
INVERSE_127 = 7.874015718698502e-3  # bitsandbytes, int8_vectorwise_dequant
TYPES = TorchDtypes({name: name for name in ("float32", "float16", "bfloat16")})


@dataclass(frozen=True)
class BlockWeight(Packed):
    """NF4 or FP4.

    Args:
        kind: `nf4` or `fp4`.
        block: weights of a block.
        rounded: the name of the dtype of the product.
        nested: blocks of a block of blocks; 0 where the magnitudes are plain.
        offset: what is added to nested magnitudes.
    """

    kind: str = "nf4"
    block: int = 64
    rounded: str = "float32"
    nested: int = 0
    offset: float = 0.0

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return f"BNB:{self.kind.upper()}"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        return [Way(swapped=("codes",)), Way(scales="ignored")]

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        first, last = start * self.columns, stop * self.columns  # of the flattened weight
        packed = parts.rows(self.parts["codes"], first // 2, -(-last // 2)).view(torch.uint8).reshape(1, -1)
        code = nibbles(packed, high_first=not self.way.swapped)[0, first % 2 :][: last - first]
        levels = parts.rows(self.parts["levels"]).float().tolist()
        blocks = slice(first // self.block, -(-last // self.block))
        scale, step = self._magnitudes(parts, blocks)
        of_weight = torch.arange(first, last) // self.block - blocks.start
        scale = applied(scale, self.way)[of_weight]
        steps = None if step is None else step[of_weight]
        values, sigma = at_levels(code, levels, gaps_of(levels), scale, steps, TYPES[self.rounded])
        return values.view(-1, self.columns), sigma.view(-1, self.columns)

    def scales_by_row(self, stored: Tensor) -> Tensor | None:
        """See `Packed`."""
        return None if self.columns % self.block else super().scales_by_row(stored)

    def _magnitudes(self, parts: Parts, blocks: slice) -> tuple[Tensor, Tensor | None]:
        """The largest magnitude of each block, and the gap between those that could be stored."""
        stored = parts.rows(self.parts["scales"], blocks.start, blocks.stop)
        if not self.nested:
            return stored.float(), None
        levels = parts.rows(self.parts["outer_levels"]).float()
        outer = parts.rows(self.parts["outer_scales"]).float()
        of_block = outer[torch.arange(blocks.start, blocks.stop) // self.nested]
        gaps = torch.tensor(gaps_of(levels.tolist()))
        return levels[stored.int()] * of_block + self.offset, gaps[stored.int()] * of_block


@dataclass(frozen=True)
class RowWeight(Packed):
    """Integers with one scale a row."""

    @property
    def dtype(self) -> str:
        """See `Packed`."""
        return "BNB:INT8"

    @property
    def ways(self) -> Sequence[Way]:
        """See `Packed`."""
        return [Way(scales="ignored")]

    def numbers(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See `Packed`."""
        q = parts.rows(self.parts["codes"], start, stop).float()
        held = parts.rows(self.parts["scales"]).float().view(-1, 1)  # of one row or one column, or a vector
        scale = applied(held[start:stop], self.way)
        return q * scale * INVERSE_127, (scale.abs() * (INVERSE_127 / SQRT12)).expand_as(q)


def packing(folder: Folder) -> Packing:
    """See `rosetta.blocks.schemes`."""
    weights: list[Packed] = []
    for kind in ("nf4", "fp4"):
        weights += [_blocked(folder, stem, kind) for stem in folder.stems(STATE + kind)]
    for stem in folder.stems(".SCB"):
        rows, columns = folder.matrix(f"{stem}.weight")
        folder.hold_dtype(f"{stem}.weight", "I8")
        folder.hold_dtype(f"{stem}.SCB", *FLOATS)
        folder.hold(f"{stem}.SCB", (rows,), (rows, 1), (1, rows))
        parts = folder.parts(stem, codes=".weight", scales=".SCB", form=".weight_format")
        weights.append(RowWeight(f"{stem}.weight", (rows, columns), parts))
    kinds = dict.fromkeys(weight.dtype.removeprefix("BNB:") for weight in weights)
    nested = any(isinstance(weight, BlockWeight) and weight.nested for weight in weights)
    words = f"bitsandbytes, {' and '.join(kinds) or 'nothing packed'}"
    return Packing(words + (", nested magnitudes" if nested else ""), tuple(weights))


def _blocked(folder: Folder, name: str, kind: str) -> BlockWeight:
    """The weight of a name that ends in `.weight`."""
    weight = _described(folder, name, kind)
    count = weight.rows * weight.columns
    blocks = -(-count // weight.block)
    folder.hold_dtype(name, "U8", "I8")
    folder.hold_dtype(f"{name}.absmax", *(("U8",) if weight.nested else FLOATS))
    folder.hold_dtype(f"{name}.quant_map", *FLOATS)
    if folder.tensors[name].nbytes != -(-count // 2):
        raise folder.misfit(name, f"{-(-count // 2)} bytes for {list(weight.dims)}")
    folder.hold(f"{name}.absmax", (blocks,))
    folder.hold(f"{name}.quant_map", (16,))
    if weight.nested:
        folder.hold(f"{name}.nested_absmax", (-(-blocks // weight.nested),))
        folder.hold(f"{name}.nested_quant_map", (256,))
        folder.hold_dtype(f"{name}.nested_quant_map", *FLOATS)
        folder.hold_dtype(f"{name}.nested_absmax", *FLOATS)
    return weight


def _described(folder: Folder, name: str, kind: str) -> BlockWeight:
    """A weight as the JSON beside it describes it, the fields checked one by one."""
    parts = {"codes": name, "state": name + STATE + kind}
    parts |= folder.parts(name, scales=".absmax", levels=".quant_map")
    parts |= folder.parts(name, outer_scales=".nested_absmax", outer_levels=".nested_quant_map")
    try:
        state = json.loads(folder.text(parts["state"]))
    except ValueError:
        state = None
    match state:
        case {"shape": [int(rows), int(columns)], "blocksize": int(block), "dtype": str(dtype)} if (
            rows > 0 and columns > 0 and block > 0 and dtype in TYPES
        ):
            match state.get("nested_blocksize", 0), state.get("nested_offset", 0.0):
                case int(nested), float(offset) if nested >= 0:
                    return BlockWeight(
                        name, (rows, columns), parts, Way(), kind, block, dtype, nested, offset
                    )
    raise folder.unsupported(f"describes {name} as {state!r:.160}")
