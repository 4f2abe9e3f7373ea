"""Parts that the families share: fields of a block as tensors, and the spacing of the values they can hold.

Letters: n = number of blocks, S = bytes a block, k = runs a block, w = bytes a run.
"""

from __future__ import annotations

import math

from rosetta.lazily import ByDtype, torch

SQRT12 = math.sqrt(12.0)  # a value rounded to steps of 1 is off by 1/√12 in the root mean square
HALF_FLOOR = 2.0**-24  # the smallest step of float16
EXPONENT = 0x7F80_0000  # of a float32: what is left is the power of two below it


def aligned(field: torch.Tensor) -> torch.Tensor:
    """A copy that can be viewed as another type: a slice of one block counts as contiguous where it lies."""
    return field.clone(memory_format=torch.contiguous_format)


def half(blocks: torch.Tensor, start: int) -> torch.Tensor:
    """The float16 at byte `start` of each block: float32 `[n, 1]`."""
    return words(blocks, start, start + 2, torch.float16).float()


def words(blocks: torch.Tensor, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
    """Bytes start … stop of each block as numbers of another type, `[n, m]`: where they lie if they are whole words of
    whole blocks, which costs no copy of so few bytes of each."""
    size = dtype.itemsize
    lie_so = not (start % size or blocks.shape[1] % size or blocks.storage_offset() % size)
    if lie_so and blocks.is_contiguous():
        return blocks.view(dtype)[:, start // size : stop // size]
    return aligned(blocks[:, start:stop]).view(dtype)


def spacing(x: torch.Tensor, mantissa_bits: int, floor: float, divisor: float = 1.0) -> torch.Tensor:
    """Unit in the last place of values held with fewer mantissa bits; infinite where x is not finite.

    Args:
        x: float32, any shape; overwritten and returned.
        mantissa_bits: explicit bits of the mantissa.
        floor: the smallest step of the format, reached by its subnormal numbers.
        divisor: of the result; a pass over the values less than dividing it afterwards.
    """
    x.view(torch.int32).bitwise_and_(EXPONENT)
    return x.mul_(2.0**-mantissa_bits / divisor).clamp_(min=floor / divisor)


def powers_of_two(x: torch.Tensor) -> torch.Tensor:
    """The power of two below each |x|, float32; 0 below the normal numbers, infinite where x is not finite."""
    return torch.bitwise_and(x.view(torch.int32), EXPONENT).view(torch.float32)


def half_step(scale: torch.Tensor, reach: float) -> torch.Tensor:
    """The step of a block whose scale is a float16: |scale|, and the rounding of the scale itself.

    The second part is what counts where the scale is subnormal or rounds to zero: a weight is then off by as
    much as `reach` halves of float16's smallest step, of which the step alone says nothing.

    Args:
        scale: float32 `[n, 1]`, values of a float16.
        reach: the largest multiple of the scale that the block can hold.
    """
    return half_step_squared(scale, reach).sqrt_()


def half_step_squared(scale: torch.Tensor, reach: float) -> torch.Tensor:
    """`half_step` squared: of float16's values neither square is too small for a float32."""
    return spacing(scale.clone(), 10, HALF_FLOOR).mul_(reach).square_().addcmul_(scale, scale)


def write_nibbles(packed: torch.Tensor, out: torch.Tensor, offset: int = 0) -> None:
    """Low nibbles, then high nibbles, of each run.

    Args:
        packed: uint8 `[n, k, w]`.
        out: `[n, k, 2, w]` of any dtype.
        offset: subtracted from each.
    """
    for plane, nibbles in enumerate((packed & 15, packed >> 4)):
        out[:, :, plane].copy_(nibbles.sub_(offset).view(torch.int8) if offset else nibbles)


def bits(packed: torch.Tensor) -> torch.Tensor:
    """The bits of each byte, lowest first: uint8 `[n, w]` -> uint8 `[n, 8·w]` of 0 and 1."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed[:, :, None] >> shifts).bitwise_and_(1).flatten(1)


MANTISSA = ByDtype(float32=23, float16=10, bfloat16=7)
FLOOR = ByDtype(float32=2.0**-149 * SQRT12, float16=HALF_FLOOR, bfloat16=2.0**-133)


def unit(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Unit in the last place that numbers have in a float dtype, float32; see `spacing`.

    Args:
        x: any float dtype and shape; left as it is.
        dtype: of `MANTISSA`.
    """
    return spacing(x.float().clone(), MANTISSA[dtype], FLOOR[dtype])
