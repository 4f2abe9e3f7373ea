"""Tables where they fit, cards where they do not."""

from __future__ import annotations

import pytest

from rosetta.report.screen import wrapped
from rosetta.report.table import table

HEADERS = ["side", "tensor or key", "kind", ""]
ROWS = [
    ["APR", "blk.0.attn_k.weight", "layout.transposed", ""],
    ["GGUF", "rope.freq_base", "config.rope_theta", "x"],
]


def test_a_table_that_fits_is_one() -> None:
    assert table(HEADERS, ROWS, 80) == table(HEADERS, ROWS)
    assert table(HEADERS, ROWS)[2].split() == ["APR", "blk.0.attn_k.weight", "layout.transposed"]


def test_a_table_that_does_not_fit_becomes_cards_without_empty_lines() -> None:
    assert table(HEADERS, ROWS, 40) == [
        "  - side           APR",
        "    tensor or key  blk.0.attn_k.weight",
        "    kind           layout.transposed",
        "  - side           GGUF",
        "    tensor or key  rope.freq_base",
        "    kind           config.rope_theta",
        "                   x",
    ]


def test_a_remark_that_does_not_fit_stands_beneath_its_row() -> None:
    rows = [["rope.freq_base", "10000.0", ""], ["attention.scale", "0.125", "1/√(key length)"]]
    assert table(["config", "APR", ""], rows, 30) == [
        "  config           APR",
        "  ---------------  -------",
        "  rope.freq_base   10000.0",
        "  attention.scale  0.125",
        "    1/√(key length)",
    ]


def test_a_column_that_says_nothing_is_left_out() -> None:
    assert table(["config", "", ""], [["rope.type", "same", ""]])[1].split() == ["-" * 9, "-" * 4]


def test_a_line_break_in_a_cell_breaks_no_line() -> None:
    assert table(["config", ""], [["a\nb", "c"]])[2:] == ["  a\\nb      c"]


def test_no_rows_are_no_table() -> None:
    assert table(HEADERS, [], 40) == []


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_word_longer_than_a_line_breaks_behind_its_punctuation(width: int) -> None:
    path = "/data/models/qwen2.5-1.5b-instruct/snapshots/model-00001-of-00002.safetensors"
    lines = wrapped(f"[ROSETTA] Loading HF: {path} (qwen2)\n", width).splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(line.strip() for line in lines).replace(" ", "") == f"[ROSETTA]LoadingHF:{path}(qwen2)"
    for line in lines[:-1]:
        assert line[-1] in "/.-:_]" or line.endswith(("Loading", "safetensors"))


def test_a_mark_stays_with_its_word() -> None:
    for width in range(20, 60):
        text = wrapped(
            "  k  max_diff=2.50e-01 (0.25 of its size), mean_diff=6.25e-02 ✗ DIVERGENCE! and ~ drift\n", width
        )
        assert "✗ DIVERGENCE!" in text
        assert "~ drift" in text
