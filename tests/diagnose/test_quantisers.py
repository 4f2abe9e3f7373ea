"""What quantisers make of a matrix: held to the libraries that have them, and told again beneath a coarser dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures.dtypes import encode
from fixtures.memory import weight_of_bytes
from rosetta.diagnose.quantisers import QUANTISERS, own_quantiser, quantised, quantiser_of
from rosetta.weight import Weight

NAME = "blk.0.ffn_up.weight"
BY_NAME = {quantiser.name: quantiser for quantiser in QUANTISERS}
ROWS_OF_8 = "eight bits, a scale for each row"


def stored(raw: np.ndarray, dtype: str, dims: tuple[int, ...]) -> Weight:
    return weight_of_bytes(raw, dtype, dims, NAME)


def matrix(rows: int = 192, columns: int = 256, seed: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=draw) * 0.02).bfloat16().float()


def original(values: Tensor) -> Weight:
    return stored(encode(values.numpy(), "BF16"), "BF16", tuple(values.shape))


@pytest.mark.parametrize("columns", [256, 96])  # of 96 a block of 64 spans two rows
@pytest.mark.parametrize("name", ["NF4", "FP4"])
def test_four_bits_are_those_of_bitsandbytes(name: str, columns: int) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    values = matrix(columns=columns)
    blocks = values.view(-1, 64)  # blocks run on from row to row
    wanted = functional.dequantize_4bit(
        *functional.quantize_4bit(blocks, blocksize=64, quant_type=name.lower())
    )
    wanted = wanted.view_as(values)
    found = quantised(original(values), BY_NAME[name])
    torch.testing.assert_close(found.values(), wanted, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(found.values(33, 70), wanted[33:70], atol=1e-7, rtol=1e-6)


def test_eight_bits_of_rows_are_those_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    codes, largest, _ = functional.int8_vectorwise_quant(matrix().half())
    wanted = codes.float() * largest[:, None] / 127
    torch.testing.assert_close(quantised(original(matrix()), BY_NAME[ROWS_OF_8]).values(), wanted)


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0"])
def test_blocks_are_those_of_ggml(name: str) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from fixtures import ggml

    values = matrix()
    wanted = torch.from_numpy(ggml.dequantize(ggml.quantize(values.numpy(), name), name)).view_as(values)
    assert torch.equal(quantised(original(values), BY_NAME[name]).values(), wanted)


@pytest.mark.parametrize("rows", [256, 200])  # the last squares of 200 are not whole
def test_squares_of_float8_share_a_scale(rows: int) -> None:
    values = matrix(rows)
    found = quantised(original(values), BY_NAME["FP8 (E4M3), blocks of 128 × 128"]).values()
    for i in range(0, rows, 128):
        for j in range(0, 256, 128):
            square = values[i : i + 128, j : j + 128]
            scale = square.abs().max() / 448
            wanted = (square / scale).to(torch.float8_e4m3fn).float() * scale
            torch.testing.assert_close(found[i : i + 128, j : j + 128], wanted)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_quantiser_is_told_by_what_it_rounded_away(name: str) -> None:
    values = original(matrix())
    copy = original(quantised(values, BY_NAME[name]).values())
    assert quantiser_of(copy, values) is BY_NAME[name]


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0", "Q4_K"])
@pytest.mark.parametrize("name", ["NF4", "FP4"])
def test_it_is_told_beneath_another_quantisation(name: str, dtype: str) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from fixtures import ggml

    values = original(matrix())
    before = quantised(values, BY_NAME[name]).values().numpy()
    assert quantiser_of(stored(ggml.quantize(before, dtype), dtype, (192, 256)), values) is BY_NAME[name]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"])
def test_of_what_was_made_from_the_original_none_is_told(dtype: str) -> None:
    """Nor is the quantiser of its own blocks one that was there before them."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from fixtures import ggml

    values = matrix()
    raw = encode(values.numpy(), dtype) if dtype in ("BF16", "F16") else ggml.quantize(values.numpy(), dtype)
    copy = stored(raw, dtype, (192, 256))
    assert quantiser_of(copy, original(values)) is None
    assert (own_quantiser(copy) is not None) == (dtype in ("Q8_0", "Q4_0"))
    other = original(matrix(seed=2))
    assert quantiser_of(copy, other) is None
