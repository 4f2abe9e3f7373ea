"""Readings of fused tensors: which rows of the stored tensor each weight is."""

from __future__ import annotations

import numpy as np
import pytest

from rosetta.architectures.parts.readings import (
    Stored,
    by_key_group,
    first_of,
    gate_beside_up,
    one_more_where,
)

SIZES = {
    "attention.head_count": 4, "attention.head_count_kv": 2,
    "attention.key_length": 3, "attention.value_length": 3,
}  # fmt: skip


def stored(stem: str, rows: int, foreign: bool = True) -> Stored:
    return Stored(stem, "weight", (rows, 8), "huggingface", 0, foreign)


def test_queries_that_share_a_key_lie_before_it_and_its_value() -> None:
    readings = by_key_group(stored("attn_qkv", 24), SIZES)
    assert [reading.name for reading in readings] == ["attn_q.weight", "attn_k.weight", "attn_v.weight"]
    # [groups, two queries and a key and a value, size], as falcon's and InternLM 2's own code views it
    rows = np.arange(24).reshape(2, 4, 3)
    wanted = [rows[:, :2], rows[:, 2], rows[:, 3]]
    for reading, want in zip(readings, wanted, strict=True):
        assert reading.part is not None
        assert reading.part.index().tolist() == want.ravel().tolist()


@pytest.mark.parametrize("stem", ["ffn_down", "ffn_gate"])
def test_only_up_holds_the_gate_too(stem: str) -> None:
    assert gate_beside_up(stored(stem, 12), {}) is None


def test_the_gate_lies_before_up() -> None:
    readings = gate_beside_up(stored("ffn_up", 12), {})
    assert readings is not None
    rows = {reading.name: reading.part.index().tolist() for reading in readings if reading.part}
    assert rows == {"ffn_gate.weight": [*range(6)], "ffn_up.weight": [*range(6, 12)]}


def test_the_first_way_that_has_an_answer_gives_it() -> None:
    read = first_of(gate_beside_up, one_more_where("ffn_norm"))
    assert read(stored("attn_norm", 8), {}) is None
    norm = read(stored("ffn_norm", 8), {})
    assert norm is not None
    assert norm[0].edit is not None
    assert read(stored("ffn_norm", 8, foreign=False), {}) is None
