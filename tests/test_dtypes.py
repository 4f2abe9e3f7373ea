"""The table of dtypes is gguf-py's, torch's and safetensors', where they have the same facts."""

from __future__ import annotations

import gguf
import pytest
import torch
from safetensors.torch import _TYPES as SAFETENSORS

from rosetta.dtypes import BY_CODE, DTYPES, FLOATS, flat_bytes, rowwise_bytes, whole_rows


def test_codes_and_sizes_are_those_of_gguf_py() -> None:
    """But for Q8_1, whose two floats are halves in ggml-common.h and whole ones in gguf-py."""
    theirs = {dtype.value: (dtype.name, *gguf.GGML_QUANT_SIZES[dtype]) for dtype in gguf.GGMLQuantizationType}
    ours = {code: (dtype.name, dtype.block_size, dtype.type_size) for code, dtype in BY_CODE.items()}
    assert theirs.pop(9) == ("Q8_1", 32, 40)
    assert ours.pop(9) == ("Q8_1", 32, 36)
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name, dtype in DTYPES.items() if dtype.number])
def test_numbers_are_those_of_torch(name: str) -> None:
    dtype = DTYPES[name]
    theirs: torch.dtype = getattr(torch, str(dtype.number))
    assert theirs.itemsize == dtype.type_size
    assert theirs.is_floating_point == (name in FLOATS)
    if name in FLOATS:
        assert torch.finfo(theirs).eps == 2.0 ** -int(dtype.mantissa_bits or 0)


@pytest.mark.parametrize("name", sorted(set(SAFETENSORS) & set(DTYPES)))
def test_sizes_are_those_of_safetensors(name: str) -> None:
    assert SAFETENSORS[name].itemsize * DTYPES[name].block_size == DTYPES[name].type_size


def test_fields_lie_in_the_block_beside_each_other() -> None:
    for dtype in DTYPES.values():
        ends = [0]
        for start, width, count in dtype.wide:
            assert ends[-1] <= start, dtype.name
            ends.append(start + width * count)
        assert ends[-1] <= dtype.type_size, dtype.name


@pytest.mark.parametrize(
    ("dtype", "dims", "flat", "rowwise", "whole"),
    [
        ("F32", (), 4, 4, True),
        ("F16", (3, 5), 30, 30, True),
        ("Q8_0", (3, 40), 4 * 34, 6 * 34, False),
        ("Q4_K", (2, 512), 4 * 144, 4 * 144, True),
        ("APR_Q8", (3, 5), 19, 19, True),
        ("APR_Q8", (0, 5), 0, 0, True),
        ("F4", (3, 4), 6, 6, True),
    ],
)
def test_bytes_of_a_tensor(dtype: str, dims: tuple[int, ...], flat: int, rowwise: int, whole: bool) -> None:
    assert (flat_bytes(dtype, dims), rowwise_bytes(dtype, dims), whole_rows(dtype, dims)) == (
        flat,
        rowwise,
        whole,
    )
