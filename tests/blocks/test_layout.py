"""How the blocks of a tensor lie: flat, by padded rows, with a tail; and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fixtures.quantize import quantize
from rosetta import blocks
from rosetta.errors import DamagedFileError, UnsupportedError

BLOCK_DTYPES = sorted(name for name, block in blocks.FORMATS.items() if block.block_size > 1)


def random_raw(dtype: str, count: int, seed: int = 1) -> torch.Tensor:
    size = blocks.block_format(dtype).type_size
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 64, count * size, dtype=np.uint8))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)))


@given(st.sampled_from(BLOCK_DTYPES), st.integers(1, 5), st.integers(1, 700))
def test_padded_rows_are_the_start_of_each_row_of_blocks(dtype: str, rows: int, columns: int) -> None:
    width = blocks.block_format(dtype).block_size
    row_blocks = -(-columns // width)
    raw = random_raw(dtype, rows * row_blocks)
    whole = blocks.decode(dtype, raw, (rows, row_blocks * width))
    by_rows = whole[:, :columns]
    flat = whole.reshape(-1)[: rows * columns].view(rows, columns)
    ambiguous = blocks.nbytes(dtype, (rows, columns)) == len(raw)
    expected = by_rows if not ambiguous or width == 256 else flat
    assert same(blocks.decode(dtype, raw, (rows, columns)), expected)
    sigma = blocks.sigma(dtype, raw, (rows, row_blocks * width))
    expected = (
        sigma[:, :columns]
        if not ambiguous or width == 256
        else sigma.reshape(-1)[: rows * columns].view(rows, columns)
    )
    assert same(blocks.sigma(dtype, raw, (rows, columns)), expected)


@given(st.sampled_from(BLOCK_DTYPES), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_flat_blocks_end_with_a_padded_one(dtype: str, dims: list[int]) -> None:
    weights = math.prod(dims)
    width = blocks.block_format(dtype).block_size
    count = -(-weights // width)
    assert blocks.nbytes(dtype, dims) == count * blocks.block_format(dtype).type_size
    raw = random_raw(dtype, count)
    expected = blocks.decode(dtype, raw, [count * width])[:weights]
    assert same(blocks.decode(dtype, raw, [weights]), expected)


def test_a_quantised_matrix_comes_back_from_either_layout() -> None:
    values = (np.random.default_rng(0).standard_normal((3, 320)) * 0.02).astype(np.float32)
    for dtype in ("Q4_K", "Q6_K"):
        by_rows, flat = quantize(values, dtype), quantize(values.reshape(1, -1), dtype)
        assert by_rows.size > flat.size
        for raw in (by_rows, flat):
            decoded = blocks.decode(dtype, torch.from_numpy(raw.reshape(-1)), values.shape)
            assert float(np.abs(decoded.numpy() - values).max()) < 0.01, f"{dtype}, {raw.size} bytes"


def test_padded_rows_of_more_than_one_slab() -> None:
    rows, columns = (1 << 21) // 512 + 5, 300
    raw = random_raw("Q4_K", rows * 2)
    expected = blocks.decode("Q4_K", raw, (rows, 512))[:, :columns]
    assert same(blocks.decode("Q4_K", raw, (rows, columns)), expected)


@pytest.mark.parametrize("qtype", [q for q in gguf.GGML_QUANT_SIZES if q.name in blocks.FORMATS])
def test_nbytes_is_gguf_pys_for_whole_blocks(qtype: gguf.GGMLQuantizationType) -> None:
    shape = (6, 512)
    expected = gguf.quant_shape_to_byte_shape(shape, qtype) if qtype.name != "F32" else (6, 2048)
    assert blocks.nbytes(qtype.name, shape) == math.prod(expected)


def test_nbytes_of_apr_q8_is_a_scale_and_a_byte_a_weight() -> None:
    assert [blocks.nbytes("APR_Q8", dims) for dims in ((3, 5), (), (0, 4))] == [19, 5, 0]


@pytest.mark.parametrize("dims", [(), (1,), (0,), (3, 0), (0, 256), (2, 3, 64)])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "Q8_0", "Q4_K", "APR_Q4", "APR_Q8", "I32"])
def test_shapes_of_any_rank_come_out_as_asked(dtype: str, dims: tuple[int, ...]) -> None:
    raw = torch.zeros(blocks.nbytes(dtype, dims), dtype=torch.uint8)
    decoded = blocks.decode(dtype, raw, dims)
    assert (tuple(decoded.shape), decoded.dtype) == (dims, torch.float32)


def test_out_is_written_and_returned() -> None:
    raw = random_raw("Q6_K", 8)
    out = torch.full((2048,), 5.0)
    decoded = blocks.decode("Q6_K", raw, (4, 512), out)
    assert decoded.data_ptr() == out.data_ptr()
    assert same(out.view(4, 512), blocks.decode("Q6_K", raw, (4, 512)))
    noise = blocks.sigma("Q6_K", raw, (4, 512), out)
    assert noise.data_ptr() == out.data_ptr()
    assert same(noise, blocks.sigma("Q6_K", raw, (4, 512)))


@pytest.mark.parametrize("dtype", sorted(blocks.FORMATS))
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_bytes_is_refused_with_both_numbers(dtype: str, change: int) -> None:
    right = blocks.nbytes(dtype, (2, 256))
    raw = torch.zeros(right + change, dtype=torch.uint8)
    with pytest.raises(DamagedFileError) as error:
        blocks.decode(dtype, raw, (2, 256))
    assert f"{right + change:,} bytes instead of {right:,}" in str(error.value)
    assert dtype in str(error.value)


@pytest.mark.parametrize("dims", [(1 << 62, 1 << 62), (-1, 256), (-2, -128), (0, -1)])
def test_absurd_dims_are_refused_without_memory(dims: tuple[int, ...]) -> None:
    with pytest.raises(DamagedFileError):
        blocks.decode("Q4_K", torch.zeros(144, dtype=torch.uint8), dims)


@pytest.mark.parametrize("dtype", ["Q8_K", "q4_k", "", "F8_E4M3"])
def test_an_unknown_dtype_is_refused_by_name(dtype: str) -> None:
    for ask in (blocks.block_format, blocks.group_of, lambda name: blocks.nbytes(name, (1,))):
        with pytest.raises(UnsupportedError, match=f"dtype {dtype} "):
            ask(dtype)


def test_integers_have_no_sigma() -> None:
    with pytest.raises(UnsupportedError, match="I32 holds integers"):
        blocks.sigma("I32", torch.zeros(8, dtype=torch.uint8), (2,))


def test_every_module_with_formats_is_found() -> None:
    modules = Path(str(blocks.__file__)).parent.glob("*.py")
    with_formats = [m.stem for m in modules if "\nFORMATS = " in m.read_text(encoding="utf-8")]
    assert len(with_formats) >= 7
    names: list[str] = []
    for stem in with_formats:
        module = __import__(f"rosetta.blocks.{stem}", fromlist=["FORMATS"])
        names += [block.name for block in module.FORMATS]
    assert sorted(names) == sorted(set(names)), "a dtype is defined twice"
    assert set(names) == set(blocks.FORMATS)


@pytest.mark.parametrize(("dtype", "group"), [("Q4_K", 32), ("Q6_K", 16), ("F16", 32), ("APR_Q8", 32)])
def test_group_of(dtype: str, group: int) -> None:
    assert blocks.group_of(dtype) == group


def test_a_group_divides_its_block() -> None:
    for dtype in BLOCK_DTYPES:
        block = blocks.block_format(dtype)
        assert block.block_size % block.group == 0, dtype


def raw_of(values: NDArray[np.float32], dtype: str) -> torch.Tensor:
    return torch.from_numpy(quantize(values, dtype).reshape(-1))


def test_a_group_shares_one_scale() -> None:
    """Scaling one group of otherwise even values leaves σ constant inside groups and not across them."""
    random = np.random.default_rng(4)
    values = random.choice([-1.0, 1.0], (1, 256)).astype(np.float32)
    values[0, :16] *= 0.25
    for dtype in ("Q6_K", "Q3_K"):
        noise = blocks.sigma(dtype, raw_of(values, dtype), (1, 256))[0]
        assert float(noise[:16].max()) < 0.6 * float(noise[16:].min()), dtype
