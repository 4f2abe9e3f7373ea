"""Blocks that an encoder gave up for one channel are no fault; damage beside them, and within them, is one."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fixtures import ggml
from fixtures.dtypes import encode
from fixtures.memory import weight_of_bytes
from fixtures.pretend_cuda import pretended_cuda
from rosetta import blocks
from rosetta.compare import weights as comparing
from rosetta.compare.salient_channels import salient_blocks
from rosetta.compare.weights import common_group, compare_weights, group_ratios
from rosetta.weight import Weight
from rosetta.weight_cache import DecodedPair, variance

Floats = NDArray[np.float32]
ROWS, COLUMNS, CHANNEL = 256, 2048, 843
DTYPES = ("Q4_0", "Q5_0", "Q6_K", "Q3_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_XS", "IQ2_S")
pytestmark = pytest.mark.requires_llamacpp


def weight(dtype: str, raw: NDArray[np.uint8]) -> Weight:
    return weight_of_bytes(raw, dtype, (ROWS, COLUMNS))


def matrix() -> Floats:
    return np.random.default_rng(3).standard_normal((ROWS, COLUMNS), dtype=np.float32) * np.float32(0.05)


def weighed(dtype: str, channels: tuple[int, ...] = (CHANNEL,)) -> NDArray[np.uint8]:
    """The matrix encoded for activations of which a few are ten thousand times the others'."""
    importance = np.ones(COLUMNS, dtype=np.float32)
    importance[list(channels)] = 1e8
    return ggml.quantize(matrix(), dtype, importance)


def truth() -> Weight:
    return weight("F32", matrix().view(np.uint8).reshape(-1))


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_channel_that_matters_most_is_no_fault(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = weight(dtype, weighed(dtype).reshape(-1))
    found = compare_weights(copy, truth())
    assert found.state == "within_noise"
    assert found.salient is not None
    place = CHANNEL // found.salient.size
    width = max(1, blocks.block_format(dtype).block_size // found.salient.size)
    assert place in found.salient.columns.tolist()
    assert {column // width for column in found.salient.columns.tolist()} == {place // width}
    monkeypatch.setattr(comparing, "salient_blocks", lambda *_: None)
    assert compare_weights(copy, truth()).state == "differing", "otherwise nothing need be forgiven"


def weighed_pair(values: Floats, dtype: str, importance: float) -> tuple[Weight, Weight]:
    """A matrix encoded for a massive channel, and the matrix."""
    of_each = np.ones(COLUMNS, dtype=np.float32)
    of_each[CHANNEL] = importance
    copy = weight(dtype, ggml.quantize(values, dtype, of_each).reshape(-1))
    return copy, weight("F32", values.view(np.uint8).reshape(-1))


def test_a_block_whose_scale_was_rounded_to_none_is_no_fault() -> None:
    """Fitted to a weight a thousandth of the others: less than half a step of its superblock's scales."""
    values, block = matrix(), slice(CHANNEL // 32 * 32, CHANNEL // 32 * 32 + 32)
    values[:, CHANNEL] *= np.float32(1e-3)
    copy, clean = weighed_pair(values, "IQ4_XS", 1e8)
    nought = (copy.values()[:, block] == 0).all(1)
    assert 32 < int(nought.sum()) < ROWS
    assert compare_weights(copy, clean).state == "within_noise"
    raw = weighed("IQ4_XS").reshape(ROWS, -1, 136).copy()
    row = int(np.abs(matrix()[:, CHANNEL]).argmax())
    hit = raw[row, CHANNEL // 256]  # ggml-common.h, block_iq4_xs: its third scale, six bits, 32 is none
    hit[2], hit[5] = hit[2] & 0xCF | 0x20, hit[5] & 0xF0
    emptied = weight("IQ4_XS", raw.reshape(-1))
    assert not emptied.values()[row, block].any()
    assert compare_weights(emptied, truth()).state == "differing", "a weight that matters is lost"


def test_what_is_left_of_weights_in_given_up_blocks_is_no_adapter() -> None:
    """Clipped to next to nothing, a block's errors are its weights, which have a rank of their own."""
    values, generator = matrix(), np.random.default_rng(9)
    block = slice(CHANNEL // 32 * 32, CHANNEL // 32 * 32 + 32)
    few = generator.standard_normal((ROWS, 2)) @ generator.standard_normal((2, 32))
    values[:, block] += 0.3 * few.astype(np.float32)
    values[:, CHANNEL] /= 16
    assert compare_weights(*weighed_pair(values, "IQ4_XS", 1e5)).state == "within_noise"
    adapter = generator.standard_normal((ROWS, 2)) @ generator.standard_normal((2, COLUMNS))
    copy, _ = weighed_pair((values + 0.001 * adapter).astype(np.float32), "IQ4_XS", 1e5)
    found = compare_weights(copy, weight("F32", values.view(np.uint8).reshape(-1)))
    assert found.state == "differing", "an adapter is one beside such blocks"


def test_the_other_block_beside_a_float_copy_is_looked_at_by_itself() -> None:
    """Q6_K's blocks are of 16: two of them as one, as the float copy's are of 32, hid which columns suffered."""
    raw = ggml.quantize(matrix(), "Q6_K").reshape(ROWS, -1)
    importance = np.ones(COLUMNS, dtype=np.float32)
    importance[CHANNEL] = 1e4
    raw[:21] = ggml.quantize(matrix(), "Q6_K", importance).reshape(ROWS, -1)[:21]
    copy = weight("Q6_K", raw.reshape(-1))
    halves = weight("BF16", np.ascontiguousarray(encode(matrix(), "BF16")).view(np.uint8).reshape(-1))
    assert compare_weights(copy, halves).state == "within_noise"
    assert [common_group(*pair) for pair in ((copy, halves), (halves, copy), (copy, copy))] == [16] * 3
    assert common_group(halves, halves) == 32


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", DTYPES)
def test_their_real_error_is_what_is_predicted(dtype: str) -> None:
    copy, clean = weight(dtype, weighed(dtype).reshape(-1)), truth()
    found = compare_weights(copy, clean).salient
    assert found is not None
    explained, error = variance(copy, clean), (copy.values() - clean.values()).square()
    widened = found.widened(explained, 0)
    columns = [c * found.size + i for c in found.columns.tolist() for i in range(found.size)]
    others = torch.ones(COLUMNS, dtype=torch.bool)
    others[columns] = False
    assert torch.equal(widened[:, others], explained[:, others])
    assert float(widened[:, columns].sum()) >= float(error[:, columns].sum()) * (1 - 1e-5)
    worst = int((error - explained)[:, columns].sum(1).argmax())
    assert float(error[worst, columns].sum()) > 4 * float(explained[worst, columns].sum())
    assert torch.equal(found.widened(explained[7:9], 7), widened[7:9])


def test_a_device_forgives_what_the_cpu_forgives() -> None:
    copy, clean = weight("Q6_K", weighed("Q6_K").reshape(-1)), truth()
    here = compare_weights(copy, clean)
    with pretended_cuda():
        there = compare_weights(copy, clean, "cuda")
        assert there.salient is not None
        widened = there.salient.widened(variance(copy, clean, device="cuda"), 0)
        assert widened.is_cuda
    assert here.salient is not None
    assert there.state == here.state == "within_noise"
    assert there.salient.columns.tolist() == here.salient.columns.tolist()


def damaged(name: str, raw: NDArray[np.uint8], dtype: str) -> NDArray[np.uint8]:
    """The bytes with one block damaged, in the channel's columns or far from them."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]
    bytes_of = raw.reshape(ROWS, -1, size).copy()
    hit = bytes_of[100, CHANNEL // block if name.startswith("there") else 1]
    if name.endswith("zeroed"):
        hit[:] = 0
    else:
        scale = slice(208, 210) if dtype == "Q6_K" else slice(0, 2)  # ggml-common.h: where the float16 is
        hit[scale] = (hit[scale].view(np.float16) * np.float16(64)).view(np.uint8)
    return bytes_of.reshape(-1)


@pytest.mark.sample(9)
@pytest.mark.parametrize("dtype", ["Q4_0", "Q5_0", "Q6_K", "IQ4_NL"])
@pytest.mark.parametrize(
    "where", ["there, zeroed", "there, overscaled", "elsewhere, zeroed", "elsewhere, overscaled"]
)
def test_a_damaged_block_is_a_fault_there_and_elsewhere(dtype: str, where: str) -> None:
    copy = weight(dtype, damaged(where, weighed(dtype), dtype))
    found = compare_weights(copy, truth())
    assert found.state == "differing"
    assert found.worst_block is not None
    assert found.worst_block[0] == 100
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]][0]
    assert found.worst_block[1] // block == (CHANNEL // block if where.startswith("there") else 1)


@pytest.mark.parametrize("dtype", ["Q4_0", "Q5_0", "IQ4_NL"])
def test_block_that_is_wrong_where_it_matters_is_a_fault_however_small_it_is(dtype: str) -> None:
    """A plain encoding was one of the choices, and is off by half a step where the largest weight is off by half."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]
    raw = weighed(dtype).reshape(ROWS, -1, size).copy()
    row = int(np.abs(matrix()[:, CHANNEL]).argmax())
    scale = slice(208, 210) if dtype == "Q6_K" else slice(0, 2)
    hit = raw[row, CHANNEL // block]
    hit[scale] = (hit[scale].view(np.float16) * np.float16(1.5)).view(np.uint8)
    found = compare_weights(weight(dtype, raw.reshape(-1)), truth())
    assert found.state == "differing"
    assert found.worst_block is not None
    assert found.worst_block[0] == row


@pytest.mark.parametrize("dtype", ["Q4_0", "IQ4_NL"])
def test_codes_in_other_columns_are_a_fault_though_the_one_that_matters_is_right(dtype: str) -> None:
    """Each weight is off by more than itself, as no encoder leaves it, whatever its scale was fitted to."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]
    raw = ggml.quantize(matrix(), dtype).reshape(ROWS, -1, size).copy()
    weighed_anyway = weighed(dtype).reshape(ROWS, -1, size)
    raw[:, CHANNEL // block] = weighed_anyway[:, CHANNEL // block]
    hit = raw[100, CHANNEL // block]
    codes = np.concatenate([hit[2:] & 15, hit[2:] >> 4])  # ggml-common.h: 16 low nibbles, then the high ones
    others = np.arange(block) != CHANNEL % block
    codes[others] = np.roll(codes[others], 1)
    hit[2:] = codes[:16] | codes[16:] << 4
    assert compare_weights(
        weight(dtype, np.ascontiguousarray(weighed_anyway).reshape(-1)), truth()
    ).state == ("within_noise")
    found = compare_weights(weight(dtype, raw.reshape(-1)), truth())
    assert found.state == "differing"
    assert found.worst_block is not None
    assert found.worst_block[0] == 100


@pytest.mark.parametrize("places", [16, 6])
def test_damaged_columns_are_a_fault_where_none_is_spared(places: int) -> None:
    """Quants of some columns of one block column turned upside down, in sixty rows."""
    blocks_of = ggml.quantize(matrix(), "Q4_0").reshape(ROWS, -1, 18).copy()
    blocks_of[50:110, CHANNEL // 32, 2 : 2 + places] ^= 0xFF if places == 16 else 0x0F
    assert compare_weights(weight("Q4_0", blocks_of.reshape(-1)), truth()).state == "differing"


def test_many_columns_are_not_forgiven() -> None:
    """What is wrong all over the matrix is no neglect, whatever single columns look like."""
    every_fourth = tuple(range(3, COLUMNS, 64))
    copy, clean = weight("Q6_K", weighed("Q6_K", every_fourth).reshape(-1)), truth()
    ratios = group_ratios(copy.values() - clean.values(), variance(copy, clean), 16)
    assert salient_blocks(copy, clean, ratios, 16, DecodedPair()) is not None, "one block column in four"
    for apart in (32, 16):  # every other block column, and every one
        copy = weight("Q6_K", weighed("Q6_K", tuple(range(3, COLUMNS, apart))).reshape(-1))
        ratios = group_ratios(copy.values() - clean.values(), variance(copy, clean), 16)
        assert salient_blocks(copy, clean, ratios, 16, DecodedPair()) is None, apart
