"""Decoded values against gguf-py's decoder, on any bytes, and against ggml's own."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fixtures import ggml
from fixtures.noise import SCALE_AT
from fixtures.quantize import quantize
from rosetta import blocks

HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]
"""Scales at every edge of float16: zeros, subnormals, the smallest normal, the largest, infinities, NaN."""


SLOW_TO_QUANTISE = ("IQ1_S", "IQ1_M", "IQ2_S", "IQ2_XS")
"""ggml takes seconds to set up the search of these codebooks."""


@pytest.fixture(autouse=True)
def without_ggml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own decoders, also where ggml's are there to be used; `test_ggml.py` holds those to these."""
    monkeypatch.setattr(blocks, "writer_of", lambda block: block.write_values)


def decodable_by_gguf() -> list[str]:
    """The dtypes for which gguf-py has a decoder, asked of gguf-py itself."""
    names = ["F32", "F16"]
    for qtype, (_, size) in gguf.GGML_QUANT_SIZES.items():
        if qtype.name not in names:
            try:
                quants.dequantize(np.zeros((1, size), dtype=np.uint8), qtype)
            except NotImplementedError:
                continue
            names.append(qtype.name)
    return names


GGUF_DTYPES = decodable_by_gguf()


def by_gguf(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        return np.asarray(quants.dequantize(raw, gguf.GGMLQuantizationType[dtype])).reshape(-1)


def by_rosetta(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    weights = len(raw) * blocks.block_format(dtype).block_size
    return blocks.decode(dtype, torch.from_numpy(raw.reshape(-1)), [weights]).numpy()


def assert_same_bits(actual: NDArray[np.float32], expected: NDArray[np.float32], what: str) -> None:
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(actual), nan), f"{what}: NaN elsewhere"
    differing = np.flatnonzero((actual.view(np.uint32) != expected.view(np.uint32)) & ~nan)
    assert not len(differing), (
        f"{what}: {len(differing)} weights differ, first {differing[0]}: "
        f"{actual[differing[0]]!r} instead of {expected[differing[0]]!r}"
    )


def test_every_dtype_that_gguf_py_decodes_is_known() -> None:
    assert len(GGUF_DTYPES) >= 26, "gguf-py decodes 26 dtypes since 0.19"
    assert set(GGUF_DTYPES) <= set(blocks.FORMATS)
    for dtype in GGUF_DTYPES:
        known = blocks.block_format(dtype)
        assert (known.block_size, known.type_size) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]


@pytest.mark.parametrize("dtype", GGUF_DTYPES)
def test_random_bytes_decode_to_gguf_pys_bits(dtype: str) -> None:
    size = blocks.block_format(dtype).type_size
    raw = np.random.default_rng(7).integers(0, 256, (1500, size), dtype=np.uint8)
    if dtype in SCALE_AT:
        at = SCALE_AT[dtype]
        raw[: len(HALVES), at : at + 2] = np.array(HALVES, dtype="<u2").view(np.uint8).reshape(-1, 2)
    assert_same_bits(by_rosetta(raw, dtype), by_gguf(raw, dtype), dtype)


@pytest.mark.parametrize("dtype", GGUF_DTYPES)
@settings(max_examples=30)
@given(data=st.data())
def test_any_bytes_decode_to_gguf_pys_bits(dtype: str, data: st.DataObject) -> None:
    size = blocks.block_format(dtype).type_size
    raw = data.draw(arrays(np.uint8, (data.draw(st.integers(1, 3)), size)))
    assert_same_bits(by_rosetta(raw, dtype), by_gguf(raw, dtype), dtype)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_half_decodes_to_gguf_pys_bits(dtype: str) -> None:
    raw = np.arange(1 << 16, dtype="<u2").view(np.uint8).reshape(-1, 2)
    assert_same_bits(by_rosetta(raw, dtype), by_gguf(raw, dtype), dtype)


def test_more_than_one_slab_decodes_like_one() -> None:
    blocks_of_two_slabs = (1 << 21) // 256 + 3
    raw = np.random.default_rng(3).integers(0, 256, (blocks_of_two_slabs, 144), dtype=np.uint8)
    assert_same_bits(by_rosetta(raw, "Q4_K"), by_gguf(raw, "Q4_K"), "Q4_K in two slabs")


def test_f64_is_rounded_to_float32() -> None:
    values = np.array([0.1, -1e-320, 1e300, 3.0])
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    assert_same_bits(by_rosetta(values.view(np.uint8).reshape(-1, 8), "F64"), expected, "F64")


@pytest.mark.parametrize("dtype", ["I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"])
def test_integers_decode_to_their_values(dtype: str) -> None:
    numpy_dtype = np.dtype(("i" if dtype[0] == "I" else "u") + str(int(dtype[1:]) // 8)).newbyteorder("<")
    info = np.iinfo(numpy_dtype)
    values = np.array([0, 1, 100, info.min, info.max], dtype=numpy_dtype)
    raw = values.view(np.uint8).reshape(-1, numpy_dtype.itemsize)
    assert by_rosetta(raw, dtype).tolist() == values.astype(np.float32).tolist()


def test_apr_q4_interleaves_its_nibbles() -> None:
    raw = np.random.default_rng(5).integers(0, 256, (50, 18), dtype=np.uint8)
    raw[:, 0:2] = np.float16(0.0123).tobytes()[0], np.float16(0.0123).tobytes()[1]
    expected = [
        np.float32(np.float16(0.0123)) * np.float32((byte >> 4 if odd else byte & 15) - 8)
        for block in raw.tolist()
        for byte in block[2:]
        for odd in (False, True)
    ]
    assert_same_bits(by_rosetta(raw, "APR_Q4"), np.array(expected, dtype=np.float32), "APR_Q4")
    assert not np.array_equal(by_rosetta(raw, "APR_Q4"), by_gguf(raw, "Q4_0")), "not Q4_0's order"


def test_apr_q8_has_one_scale_for_the_tensor() -> None:
    levels = np.arange(-128, 128, dtype=np.int8)
    raw = np.concatenate([np.array([0.03], dtype="<f4").view(np.uint8), levels.view(np.uint8)])
    decoded = blocks.decode("APR_Q8", torch.from_numpy(raw), [16, 16])
    expected = (levels.astype(np.float32) * np.float32(0.03)).reshape(16, 16)
    assert_same_bits(decoded.numpy().reshape(-1), expected.reshape(-1), "APR_Q8")


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", GGUF_DTYPES[1:])  # ggml has no decoder for F32
def test_random_bytes_decode_to_ggmls_bits(dtype: str) -> None:
    pytest.importorskip("llama_cpp")
    size = blocks.block_format(dtype).type_size
    raw = np.random.default_rng(11).integers(0, 256, (500, size), dtype=np.uint8)
    if dtype == "NVFP4":
        raw[:, :4] &= 0x7F  # the scale has no sign; with the bit set gguf-py and ggml differ
    assert_same_bits(by_rosetta(raw, dtype), ggml.dequantize(raw, dtype), f"{dtype} against ggml")


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", [d for d in GGUF_DTYPES[1:] if d not in SLOW_TO_QUANTISE])
def test_what_ggml_quantises_decodes_to_ggmls_bits(dtype: str) -> None:
    pytest.importorskip("llama_cpp")
    values = (np.random.default_rng(2).standard_normal((4, 512)) * 0.02).astype(np.float32)
    raw = ggml.quantize(values, dtype)
    decoded = blocks.decode(dtype, torch.from_numpy(raw.reshape(-1)), values.shape).numpy()
    assert_same_bits(decoded.reshape(-1), ggml.dequantize(raw, dtype), dtype)
    error = np.sqrt(np.square(decoded - values).mean() / np.square(values).mean())
    assert error < 0.9, f"{dtype}: decoded values have nothing to do with the originals"


@pytest.mark.requires_samples
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_sample_tensors_decode_like_gguf_py(name: str, samples: Path) -> None:
    files = sorted((samples / "models" / name).rglob("*.gguf"))
    assert files, f"no GGUF among the samples of {name}"
    compared = 0
    for tensor in (t for file in files for t in gguf.GGUFReader(file).tensors):
        raw = torch.from_numpy(np.array(tensor.data).view(np.uint8).reshape(-1))
        decoded = blocks.decode(tensor.tensor_type.name, raw, [int(d) for d in tensor.shape[::-1]])
        expected = np.asarray(quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        assert_same_bits(decoded.numpy().reshape(-1), expected.reshape(-1).copy(), tensor.name)
        compared += 1
    assert compared > 10


@pytest.mark.requires_cuda
@pytest.mark.parametrize("dtype", sorted(blocks.FORMATS))
def test_cuda_gives_the_bits_of_the_cpu(dtype: str) -> None:
    values = (np.random.default_rng(2).standard_normal((8, 512)) * 0.02).astype(np.float32)
    try:
        raw = torch.from_numpy(quantize(values, dtype).reshape(-1))
    except NotImplementedError:
        size = blocks.nbytes(dtype, values.shape)
        raw = torch.from_numpy(np.random.default_rng(2).integers(0, 100, size, dtype=np.uint8))
    decoded = blocks.decode(dtype, raw.cuda(), values.shape)
    assert decoded.is_cuda
    expected = blocks.decode(dtype, raw, values.shape)
    assert_same_bits(decoded.cpu().numpy().reshape(-1), expected.numpy().reshape(-1), f"{dtype} on CUDA")
    if blocks.block_format(dtype).write_sigma is not None:
        torch.testing.assert_close(
            blocks.sigma(dtype, raw.cuda(), values.shape).cpu(),
            blocks.sigma(dtype, raw, values.shape),
            rtol=1e-6,
            atol=0,
        )


def test_quantised_values_come_back_from_any_address() -> None:
    values = (np.random.default_rng(2).standard_normal((2, 512)) * 0.02).astype(np.float32)
    raw = quantize(values, "Q4_K").reshape(-1)
    expected = blocks.decode("Q4_K", torch.from_numpy(raw.copy()), values.shape)
    for offset in range(1, 9):
        shifted = torch.zeros(len(raw) + 9, dtype=torch.uint8)[offset : offset + len(raw)]
        shifted.copy_(torch.from_numpy(raw))
        assert torch.equal(blocks.decode("Q4_K", shifted, values.shape), expected), offset
