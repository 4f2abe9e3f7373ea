"""A weight's bytes become canonical numbers whatever was fused, turned or reordered; numpy says which ones."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fixtures.blueprint import interleaved
from fixtures.dtypes import encode
from fixtures.memory import MemoryContainer, weight_of
from rosetta import blocks
from rosetta.architectures import INTERLEAVED, SPLIT_HALF
from rosetta.row_order import GroupOrder, Part, RowOrder, WithinRows
from rosetta.weight import Weight

Floats = NDArray[np.float32]
HEADS = st.tuples(
    st.integers(1, 6), st.integers(0, 8), st.integers(0, 5)
)  # heads, pairs, rows that do not rotate


def random(*dims: int) -> Floats:
    return np.random.default_rng(list(dims)).standard_normal(dims, dtype=np.float32)


# Rotary rows


def adjacent_pairs(rows: int, head: int, rotated: int) -> list[int]:
    """For each row of GGUF's order the split-half row: row 2j of a head was row j, row 2j + 1 was j + n/2."""
    found = []
    for row in range(rows):
        first, inside = row - row % head, row % head
        if rotated <= inside or first + head > rows:
            found.append(row)
        elif inside % 2 == 0:
            found.append(first + inside // 2)
        else:
            found.append(first + inside // 2 + rotated // 2)
    return found


@given(HEADS)
def test_row_order_is_a_permutation_and_each_direction_undoes_the_other(sizes: tuple[int, int, int]) -> None:
    heads, pairs, rest = sizes
    head, rotated = max(2 * pairs + rest, 1), 2 * pairs
    rows = heads * head
    to_gguf, from_gguf = (RowOrder(head, rotated, source).index(rows) for source in (SPLIT_HALF, INTERLEAVED))
    assert sorted(to_gguf) == list(range(rows))
    np.testing.assert_array_equal(to_gguf[from_gguf], np.arange(rows))
    np.testing.assert_array_equal(from_gguf[to_gguf], np.arange(rows))


@given(HEADS, st.integers(0, 3))
def test_row_order_is_llama_cpps_and_rows_of_no_whole_head_stay(
    sizes: tuple[int, int, int], extra: int
) -> None:
    heads, pairs, rest = sizes
    head = max(2 * pairs + rest, 1)
    rows = heads * head + min(extra, head - 1)
    assert RowOrder(head, 2 * pairs, SPLIT_HALF).index(rows).tolist() == adjacent_pairs(rows, head, 2 * pairs)


def test_a_whole_matrix_is_permuted_as_llama_cpps_converter_does() -> None:
    values = random(4 * 16, 8)
    ours = weight_of(values, order=RowOrder(16, 16, SPLIT_HALF)).values().numpy()
    theirs = values.reshape(4, 2, 8, 8).swapaxes(1, 2).reshape(values.shape)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours, interleaved(values, 4))


# Values, rows and σ of every layout


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Weight, Floats]:
    """A weight in some layout, and its canonical values by numpy from gguf-py's decoding of the whole tensor."""
    dtype = draw(st.sampled_from(["F32", "F16", "BF16", "Q8_0", "Q4_0", "APR_Q8", "F64"]))
    turned, head, heads = draw(st.booleans()), 4, draw(st.integers(1, 3))
    shares = draw(st.sampled_from([(1,), (1, 1, 1), (2, 1, 1), (4, 1, 1)]))  # of a fused tensor's rows
    unit, columns = head * heads, draw(st.sampled_from([32, 64]))
    if turned and dtype in ("Q8_0", "Q4_0"):
        unit, columns = 96 // sum(shares), draw(st.sampled_from([12, 24]))  # blocks lie along the rows
    rows = unit * sum(shares)
    dims = (columns, rows) if turned else (rows, columns)
    values = random(*dims)
    raw = values.astype("<f8").view(np.uint8) if dtype == "F64" else encode(values, dtype)
    container = MemoryContainer({}, {"w": (dtype, dims, raw)})
    if dtype == "F64":
        decoded = values
    elif dtype == "APR_Q8":
        decoded = blocks.decode(dtype, torch.from_numpy(raw.reshape(-1)), dims).numpy()
    else:
        decoded = gguf.quants.dequantize(raw.reshape(1, -1), gguf.GGMLQuantizationType[dtype]).reshape(dims)
    whole = decoded.T if turned else decoded
    part = None
    if len(shares) > 1:
        which, groups = draw(st.integers(0, 2)), draw(st.sampled_from([1, unit]))
        part = Part(which, tuple(unit // groups * n for n in shares), groups)
        starts = np.cumsum([0, *part.sizes])
        each = whole.reshape(groups, starts[-1], *whole.shape[1:])[:, starts[which] : starts[which + 1]]
        whole = each.reshape(-1, *whole.shape[1:])
    order = None
    if draw(st.booleans()):
        order = RowOrder(
            head, draw(st.sampled_from([2, 4])), draw(st.sampled_from([INTERLEAVED, SPLIT_HALF]))
        )
        whole = whole[order.index(len(whole))]
    columns = None
    if whole.ndim == 2 and dtype in ("F32", "F16", "BF16") and draw(st.booleans()):
        columns = GroupOrder(2, 2, 1)
        whole = whole[:, columns.index(whole.shape[1])]
    entry, slot = container.tensors["w"], None
    if draw(st.booleans()):  # between two other matrices of one tensor
        held = np.concatenate([raw.reshape(-1)[::-1], raw.reshape(-1), raw.reshape(-1)[::-1]])
        container, slot = MemoryContainer({}, {"w": (dtype, (3, *dims), held)}), (1, 3)
        entry = container.tensors["w"]
    found = Weight(
        "w", container, entry, dtype, dims, turned, slot=slot, part=part, order=order, columns=columns
    )
    return found, np.ascontiguousarray(whole)


@given(layouts(), st.data())
def test_values_rows_and_parts_are_numpys(case: tuple[Weight, Floats], data: st.DataObject) -> None:
    found, expected = case
    assert (found.dims, found.count) == (expected.shape, expected.size)
    np.testing.assert_array_equal(found.values().numpy(), expected)
    assert found.values().is_contiguous()
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected) + 2))
    np.testing.assert_array_equal(found.values(start, stop).numpy(), expected[start:stop])
    picked = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=4))
    np.testing.assert_array_equal(found.rows(picked).numpy(), expected[picked])
    sigma = found.sigma().numpy()
    assert sigma.shape == expected.shape
    np.testing.assert_array_equal(found.sigma(start, stop).numpy(), sigma[start:stop])
    np.testing.assert_array_equal(found.sigma_rows(picked).numpy(), sigma[picked])


def test_sigma_follows_its_weight_through_turning_and_reordering() -> None:
    # A step that differs from row to row.
    values = random(8, 32) * np.logspace(-3, 3, 8, dtype=np.float32)[:, None]
    plain = weight_of(values, "F16").sigma().numpy()
    order = RowOrder(8, 8, SPLIT_HALF)
    np.testing.assert_array_equal(
        weight_of(values, "F16", order=order).sigma().numpy(), plain[order.index(8)]
    )
    np.testing.assert_array_equal(weight_of(values, "F16", transposed=True).sigma().numpy(), plain.T)


@pytest.mark.parametrize("at_once", [1, 100, 1 << 22])
@pytest.mark.parametrize("dtype", ["F32", "F16", "Q8_0", "Q6_K"])
@pytest.mark.parametrize(
    "changes", [{}, {"order": RowOrder(32, 16, SPLIT_HALF)}, {"part": Part(1, (64, 192))}]
)
def test_a_turned_matrix_is_the_same_however_much_of_it_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch, dtype: str, at_once: int, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("rosetta.weight.TURNED_AT_ONCE", at_once)
    found = weight_of(random(6, 256), dtype, transposed=True, **changes)
    whole = blocks.decode(dtype, torch.from_numpy(found.container.read("w")), (6, 256)).numpy().T
    whole = whole[64:] if "part" in changes else whole
    expected = whole[found.order.index(256)] if found.order else whole
    np.testing.assert_array_equal(found.values().numpy(), expected)
    np.testing.assert_array_equal(found.values(20, 50).numpy(), expected[20:50])
    assert found.values(20, 50).is_contiguous()
    np.testing.assert_array_equal(found.corner(20, 4).numpy(), expected[:20, :4])


@pytest.mark.parametrize("columns", [1, 5, 100])
def test_a_corner_of_a_turned_matrix_whose_blocks_span_its_rows(columns: int) -> None:
    values = random(40, 24)  # blocks of 32 weights, one after another
    container = MemoryContainer(
        {}, {"w": ("Q8_0", (40, 24), encode(values.reshape(1, -1), "Q8_0").reshape(-1))}
    )
    found = Weight("w", container, container.tensors["w"], "Q8_0", (40, 24), transposed=True)
    np.testing.assert_array_equal(found.corner(16, columns).numpy(), found.values()[:16, :columns].numpy())
    assert all(stop < found.entry.nbytes for _, _, stop in found.container.reads[:1]) == (columns < 40)  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", ["F16", "Q8_0"])
def test_some_rows_are_read_without_the_others(dtype: str) -> None:
    found = weight_of(random(64, 32), dtype)
    row = found.entry.nbytes // 64
    found.rows([3, 60])
    found.values(8, 10)
    assert found.container.reads == [  # type: ignore[attr-defined]
        ("w", 3 * row, 4 * row), ("w", 60 * row, 61 * row), ("w", 8 * row, 10 * row),
    ]  # fmt: skip


@pytest.mark.parametrize("dims", [(5,), (), (0, 4), (4, 0)])
def test_vectors_scalars_and_empty_tensors_keep_their_dims(dims: tuple[int, ...]) -> None:
    values = np.arange(int(np.prod(dims)), dtype=np.float32).reshape(dims)
    container = MemoryContainer({}, {"w": ("F32", dims, values.reshape(-1).view(np.uint8))})
    found = Weight("w", container, container.tensors["w"], "F32", dims)
    assert found.dims == dims
    np.testing.assert_array_equal(found.values().numpy(), values)


def test_a_fused_tensor_whose_rows_are_not_the_sum_of_its_parts_stays_whole() -> None:
    """Its dims then contradict the config, and the stage says so instead of reading beyond a part."""
    assert weight_of(random(10, 4), part=Part(1, (4, 4, 4))).dims == (10, 4)


@pytest.mark.parametrize("rows", [128, 124, 64, 0])
def test_rows_fewer_than_the_config_counts_are_ordered_as_far_as_they_go(rows: int) -> None:
    within = WithinRows(64, 192, GroupOrder(2, 2, 32))
    assert sorted(within.index(rows)) == list(range(rows))
    assert sorted(GroupOrder(2, 0, 32).index(rows)) == list(range(rows)), "a config that counts none"
