"""The bytes of a repaired tensor: kept where they can say its values, and never a value that is not meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fixtures.dtypes import decode, encode
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.diagnose.edits import FromOther, Offset, Scaled
from rosetta.diagnose.patches import InMemory
from rosetta.repair.encode import encoded, exact_bytes
from rosetta.repair.planned import Held, Planned
from rosetta.row_order import RowOrder
from rosetta.weight import Weight

ROWS, COLUMNS = 8, 256


def weight(values: NDArray[np.float32], dtype: str, name: str = "blk.0.ffn_up.weight") -> Weight:
    """A weight of a file that holds it alone."""
    data = encode(values, dtype).reshape(-1).view(np.uint8)
    source = InMemory(TensorInput(name, dtype, values.shape, data))
    return Weight(name, source, source.entry, dtype, values.shape)


def random(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((ROWS, COLUMNS)).astype(np.float32)


def taking(own: Weight, other: Weight, mask: NDArray[np.bool_]) -> Weight:
    """The weight with some values of the other's."""
    chosen, every = torch.from_numpy(mask), own.values()

    def rows(start: int, values: torch.Tensor) -> torch.Tensor:
        assert torch.equal(values, every[start : start + len(values)]), (
            "rows are counted from the tensor's first"
        )
        return chosen[start : start + len(values)]

    return replace(own, values_edits=(FromOther(other, rows, (0, len(every))),))


def written(
    repaired: Weight, other: Mapping[str, Weight], held: Held | None = None, turned: bool = False
) -> TensorInput:
    planned = Planned("own", TensorEntry("own", "F32", (), 0), (held or Held(repaired),), turned)
    return encoded(planned, lambda tensor, foreign: True, other, repaired.container).tensor


@pytest.mark.parametrize("at_once", [1 << 22, 3 * COLUMNS])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_values_that_are_not_taken_keep_their_bytes(
    monkeypatch: pytest.MonkeyPatch, dtype: str, at_once: int
) -> None:
    monkeypatch.setattr("rosetta.repair.encode.WEIGHTS_AT_ONCE", at_once)
    own = weight(random(), dtype)
    other = weight(random(1), dtype)
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[2] = True
    data = exact_bytes(taking(own, other, mask))
    assert data is not None
    before, theirs = own.raw(), other.raw()
    assert before is not None
    assert theirs is not None
    np.testing.assert_array_equal(data[[0, 1, *range(3, ROWS)]], before[[0, 1, *range(3, ROWS)]])
    np.testing.assert_array_equal(data[2], theirs[2])


def test_half_a_block_of_another_tensor_is_not_taken_whole() -> None:
    own, other = weight(random(), "Q8_0"), weight(random(1), "Q8_0")  # nothing in common
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[2, :16] = True
    assert exact_bytes(taking(own, other, mask)) is None, "the other half would change by more than rounding"


def test_a_block_with_one_damaged_weight_is_taken_whole_from_another_encoding_of_it() -> None:
    values = random()
    own, other = weight(values, "Q4_K"), weight(values + np.float32(1e-5), "Q4_K")
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[3, 7] = True
    data, theirs = exact_bytes(taking(own, other, mask)), other.raw()
    assert data is not None
    assert theirs is not None
    np.testing.assert_array_equal(data[3], theirs[3])


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_float_that_its_dtype_holds_is_written_in_it(dtype: str) -> None:
    own, other = weight(random(), dtype), weight(random(1), "F32")
    assert exact_bytes(replace(own, values_edits=(Scaled(-2.0),))) is not None
    assert exact_bytes(replace(own, values_edits=(Scaled(3.0),))) is None, "a third is rounded"
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[0, 0] = True
    assert exact_bytes(taking(own, other, mask)) is None, "float32 does not fit"


def test_sixty_four_bits_are_not_narrowed() -> None:
    values = np.random.default_rng(0).standard_normal((4, 32))
    source = InMemory(TensorInput("w", "F64", (4, 32), values.reshape(-1).view(np.uint8)))
    own = Weight("w", source, source.entry, "F64", (4, 32))
    other = weight(values.astype(np.float32) * 2, "F32", "w")
    mask = np.zeros((4, 32), bool)
    mask[1] = True
    data = exact_bytes(taking(own, other, mask))
    assert data is not None
    got = data.reshape(-1).view(np.float64).reshape(4, 32)
    np.testing.assert_array_equal(got[[0, 2, 3]], values[[0, 2, 3]])
    np.testing.assert_array_equal(got[1], (values.astype(np.float32) * 2)[1].astype(np.float64))


def test_float32_says_what_bf16_cannot_where_that_passes() -> None:
    values = random()
    own = weight(values * np.float32(3), "F32")
    got = written(replace(own, values_edits=(Scaled(3.0),)), {own.name: weight(values, "F16", own.name)})
    assert got.dtype == "F32"
    np.testing.assert_allclose(got.data.view(np.float32).reshape(ROWS, COLUMNS), values, rtol=1e-6)


def test_the_other_sides_tensor_takes_the_place_of_what_no_dtype_says_honestly() -> None:
    values = random()
    own = weight(values * np.float32(3), "Q4_0")
    believed = weight(values, "F16", own.name)
    got = written(replace(own, values_edits=(Scaled(3.0),)), {own.name: believed})
    assert got.dtype == "F16"
    np.testing.assert_array_equal(got.data, believed.raw().reshape(-1))  # type: ignore[union-attr]


def test_without_another_side_the_exact_values_are_written() -> None:
    """A recorded run has no weights."""
    own = weight(random() * np.float32(3), "Q4_0")
    repaired = replace(own, values_edits=(Scaled(3.0),))
    got = written(repaired, {})
    assert got.dtype == "F32"
    np.testing.assert_array_equal(got.data.view(np.float32), repaired.values().reshape(-1).numpy())


@given(
    dtype=st.sampled_from(["F32", "F16", "BF16", "Q8_0", "Q4_K"]),
    stored=st.sampled_from([None, 0, 2]),
    read=st.sampled_from([None, 0, 2]),
    turned=st.booleans(),
    seed=st.integers(0, 99),
)
def test_whatever_the_layout_a_reader_gets_the_repaired_values(
    dtype: str, stored: int | None, read: int | None, turned: bool, seed: int
) -> None:
    """Rows in either rotary order, matrices turned or not: what is written decodes to what was meant."""
    orders = {order: None if order is None else RowOrder(4, 4, order) for order in (None, 0, 2)}
    own = replace(weight(random(seed), dtype), order=orders[stored])
    got = written(own, {}, Held(own, orders[read]), turned)
    source = InMemory(got)
    back = Weight(own.name, source, source.entry, got.dtype, got.dims, turned, order=orders[read])
    torch.testing.assert_close(back.values(), own.values(), rtol=0, atol=0)
    if dtype in ("F32", "F16", "BF16") or not turned:
        assert got.dtype == dtype, "rows and single floats move without a change"


def test_blocks_that_span_rows_keep_their_bytes() -> None:
    """Rows of 24 weights in blocks of 32, as an `.apr` may have them."""
    values = np.random.default_rng(0).standard_normal((8, 24)).astype(np.float32)
    data = encode(values.reshape(-1), "Q8_0").reshape(-1).view(np.uint8)
    source = InMemory(TensorInput("w", "Q8_0", (8, 24), data))
    own = Weight("w", source, source.entry, "Q8_0", (8, 24))
    assert own.raw() is None
    mask = np.zeros((8, 24), bool)
    mask[0, :] = mask[1, :8] = True  # the first block
    other = replace(own, container=InMemory(TensorInput("w", "Q8_0", (8, 24), np.roll(data, 34))))
    got = exact_bytes(taking(own, other, mask))
    assert got is not None
    np.testing.assert_array_equal(got[0, 34:], data[34:])
    np.testing.assert_array_equal(got[0, :34], data[-34:])
    unchanged = gguf.quants.dequantize(data.reshape(-1, 34), gguf.GGMLQuantizationType.Q8_0).reshape(8, 24)
    np.testing.assert_array_equal(unchanged, decode(data, "Q8_0", (8, 24)))


def test_an_added_amount_is_taken_off_exactly() -> None:
    own = weight(np.full((1, 32), 1.5, np.float32), "F16")
    data = exact_bytes(replace(own, values_edits=(Offset(1.0),)))
    assert data is not None
    assert set(data.reshape(-1).view(np.float16).tolist()) == {0.5}
