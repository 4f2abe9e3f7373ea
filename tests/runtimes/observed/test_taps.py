"""How a node's values come to the dims of a stage, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta.runtimes.observed.taps import Form, NotPlaced, Tap, canonical, overwritten, token_axis

HEADS = Tap("layers.0.q", (0,), "heads", 8)


def test_the_tokens_axis_is_the_one_that_grows_with_them() -> None:
    assert token_axis((4, 4, 8), (4, 3, 8), 4, 3) == (1, 1)
    assert token_axis((1, 12, 8), (1, 9, 8), 4, 3) == (1, 3)


@pytest.mark.parametrize("dims", [((4, 8), (4, 8)), ((4, 4), (3, 3)), ((4, 8), (1, 3, 8))])
def test_dims_that_do_not_tell_are_no_stage(dims: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(NotPlaced, match="its dims are"):
        token_axis(*dims, 4, 3)


def test_heads_before_tokens_become_tokens_before_heads() -> None:
    value = np.arange(1 * 2 * 4 * 8).reshape(1, 2, 4, 8)  # batch, heads, tokens, head size
    assert np.array_equal(canonical(HEADS, value, (1, 2, 3, 8), 3, 4), value[0].swapaxes(0, 1))


def test_a_projection_is_cut_into_heads() -> None:
    value = np.arange(4 * 16).reshape(1, 4, 16)
    assert np.array_equal(canonical(HEADS, value, (1, 3, 16), 3, 4), value.reshape(4, 2, 8))


def test_scores_lose_what_pads_them() -> None:
    value = np.arange(2 * 4 * 256).reshape(1, 2, 4, 256)
    found = canonical(Tap("layers.0.attn_scores", (0,), "scores"), value, (1, 2, 3, 256), 3, 4)
    assert np.array_equal(found, value[0, :, :, :4])


def test_a_width_that_does_not_divide_is_no_stage() -> None:
    with pytest.raises(NotPlaced, match="not a multiple of 8"):
        canonical(HEADS, np.zeros((4, 12)), (3, 12), 3, 4)


CASES: list[tuple[Form, tuple[int, ...], tuple[int, ...], slice | None]] = [
    ("features", (1, 4, 6), (1, 3, 6), None),
    ("features", (1, 4, 6), (1, 3, 6), slice(3, 6)),
    ("heads", (1, 3, 4, 2), (1, 3, 3, 2), None),
    ("scores", (3, 4, 9), (3, 3, 9), None),
    ("experts", (4, 3, 2), (3, 3, 2), None),
    ("experts", (12, 2), (9, 2), None),
]


@pytest.mark.parametrize(("form", "dims", "probed", "columns"), CASES)
@given(seed=st.integers(0, 99))
def test_what_is_written_is_what_is_read(
    form: Form, dims: tuple[int, ...], probed: tuple[int, ...], columns: slice | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    tap = Tap("any", (0,), form, 2, columns)
    value = random.standard_normal(dims)
    stage = canonical(tap, value, probed, 3, 4)
    new = random.standard_normal(stage.shape)
    written = overwritten(tap, value, new, probed, 3, 4)
    assert np.array_equal(canonical(tap, written, probed, 3, 4), new)
    assert np.array_equal(overwritten(tap, written, stage, probed, 3, 4), value)  # nothing else was touched


def test_what_lies_in_another_order_in_memory_is_written_too() -> None:
    value = np.zeros((1, 4, 3, 2)).transpose(
        0, 2, 1, 3
    )  # [1, heads, tokens, head size], as transformers has it
    tap = Tap("any", (0,), "heads", 2)
    written = overwritten(tap, value, np.ones((4, 3, 2)), (1, 3, 3, 2), 3, 4)
    assert written.shape == (1, 3, 4, 2)
    assert (written == 1).all()


def test_features_in_the_files_order_are_written_back_in_the_runtimes() -> None:
    tap = Tap("any", (0,), order=np.array([2, 0, 1]))
    value = np.arange(12.0).reshape(4, 3)
    stage = canonical(tap, value, (3, 3), 3, 4)
    assert stage[0].tolist() == [2, 0, 1]
    assert np.array_equal(overwritten(tap, np.zeros((4, 3)), stage, (3, 3), 3, 4), value)
    with pytest.raises(NotPlaced, match="4 features, not 3"):
        canonical(tap, np.zeros((4, 4)), (3, 4), 3, 4)


def test_other_dims_are_not_written() -> None:
    with pytest.raises(NotPlaced, match=r"has dims \[4, 2, 8\], and is given \[4, 8\]"):
        overwritten(HEADS, np.zeros((4, 16)), np.zeros((4, 8)), (3, 16), 3, 4)
