"""Names that differ only in the layer, said once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta.report.folding import groups, layer_of, ranges, with_layers, without_layer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("blk.7.attn_q.weight", 7),
        ("model.layers.12.self_attn.q_proj.weight", 12),
        ("transformer.h.3.attn.c_attn.weight", 3),
        ("output_norm.weight", None),
        ("blk.x.weight", None),
        ("blk." + "9" * 5000 + ".weight", None),
    ],
)
def test_the_layer_of_a_name(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


def test_a_sentence_about_one_layer_is_said_of_all() -> None:
    sentence = "blk.2.attn_q.weight of layer 2 has 2 heads, unlike blk.3.attn_q.weight"
    assert with_layers(sentence, [2, 3, 4, 9]) == (
        "blk.{2..4,9}.attn_q.weight of layer {2..4,9} has 2 heads, unlike blk.3.attn_q.weight"
    )


def test_texts_that_differ_only_in_their_layer_are_equal_without_it() -> None:
    assert without_layer("blk.2.x: 2", 2) == without_layer("blk.5.x: 2", 5)
    assert without_layer("blk.2.x: 2", 2) != without_layer("blk.5.x: 5", 5)


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_name_exactly_their_numbers(numbers: set[int]) -> None:
    said: set[int] = set()
    for part in ranges(sorted(numbers)).strip("{}").split(","):
        first, _, last = part.partition("..")
        said |= set(range(int(first), int(last or first) + 1))
    assert said == numbers


def test_groups_keep_the_order_of_first_appearance() -> None:
    assert groups([3, 1, 4, 1, 5, 9, 2, 6], lambda n: n % 3) == [[3, 9, 6], [1, 4, 1], [5, 2]]
