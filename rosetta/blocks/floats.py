"""F32, F16, BF16 and F64: a weight is a block of its own; its step is its unit in the last place."""

from __future__ import annotations

from rosetta.blocks.fields import HALF_FLOOR, SQRT12, powers_of_two, spacing
from rosetta.blocks.format import BlockFormat, Writer
from rosetta.dtypes import FLOATS
from rosetta.lazily import TorchDtypes, torch

TORCH_FLOATS = TorchDtypes({name: str(dtype.number) for name, dtype in FLOATS.items()})

# IEEE 754: the step of the subnormal numbers. F32's would become zero in float32 when divided by √12.
SQUARED_IS_NONE = 2.0**-75  # what is no larger has a square that float32 has not
_FLOORS = {"F32": 2.0**-149 * SQRT12, "F16": HALF_FLOOR, "BF16": 2.0**-133}


def by_power(name: str) -> tuple[float, float]:
    """What the square of the power of two below a value is to be multiplied with for the variance of its rounding, and
    the least power that counts; 0: any."""
    rounded = "F32" if name == "F64" else name
    mantissa_bits, floor = int(FLOATS[rounded].mantissa_bits or 0), _FLOORS[rounded]
    return 4.0**-mantissa_bits / 12, floor * 2.0**mantissa_bits if floor > SQUARED_IS_NONE else 0.0


def _float_format(name: str) -> BlockFormat:
    """F64 is decoded to float32, and that is the rounding that counts."""
    rounded = "F32" if name == "F64" else name
    mantissa_bits, floor = int(FLOATS[rounded].mantissa_bits or 0), _FLOORS[rounded]
    factor, least = by_power(name)

    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(blocks.view(TORCH_FLOATS[name]))

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        write_values(blocks, out)
        spacing(out, mantissa_bits, floor, SQRT12)

    def add_variance(values: torch.Tensor, to: torch.Tensor) -> None:
        power = powers_of_two(values)
        if least:
            power.clamp_(min=least)
        to.addcmul_(power, power, value=factor)

    values: Writer = write_values
    return BlockFormat(name, 32, values, write_sigma, add_variance=add_variance)


FORMATS = tuple(map(_float_format, FLOATS))
