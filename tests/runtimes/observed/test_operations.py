"""What of a run weights alone make: told from its graph, and read back from what a file says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rosetta.runtimes.observed.graph import Graph, Node
from rosetta.runtimes.observed.operations import made_of_weights, read_operations
from rosetta.runtimes.observed.placing import Placement
from rosetta.runtimes.observed.taps import Tap

T, H = 3, 8
NAMES = {"ADD": "add", "SUB": "add", "MUL": "mul"}


def graph_of(*rows: tuple[str, tuple[int, ...], tuple[str, ...]]) -> Graph:
    """Nodes by (operation, inputs, weights), each of [T, H]."""
    nodes = [
        Node(
            NAMES.get(operation, operation),  # type: ignore[arg-type]
            inputs,
            weights,
            (T, H),
            (number, operation, ""),
            "",
            centred=False if operation == "norm" else None,
        )
        for number, (operation, inputs, weights) in enumerate(rows)
    ]
    return Graph(nodes, len(nodes) - 1)


def told(graph: Graph, **stages: int) -> dict[str, Any]:
    placed = Placement(tuple(Tap(name.replace("_0_", ".0.", 1), (i,)) for name, i in stages.items()), {})
    _, made = made_of_weights(graph, placed)
    return {one["stage"].rpartition(".")[2]: one for one in json.loads(json.dumps(made))}


PLAIN = graph_of(
    ("rows", (), ("token_embd.weight",)),
    ("norm", (0,), ()),
    ("MUL", (1,), ("blk.0.attn_norm.weight",)),
    ("product", (2,), ("blk.0.attn_output.weight",)),
    ("ADD", (3,), ("blk.0.attn_output.bias",)),
    ("ADD", (4, 0), ()),
    ("SUB", (4, 0), ()),
)


def test_rows_norms_products_and_sums_are_told() -> None:
    made = told(PLAIN, embedding=0, layers_0_attn_norm=2, layers_0_attn_out=4, layers_0_attn_residual=5)
    assert {name: one["sources"] for name, one in made.items()} == {
        "embedding": ["tokens"],
        "attn_norm": ["embedding"],
        "attn_out": ["layers.0.attn_norm"],
        "attn_residual": ["layers.0.attn_out", "embedding"],
    }
    (norm,), (product,) = made["attn_norm"]["links"], made["attn_out"]["links"]
    assert (norm["kind"], norm["stem"], norm["width"], norm["centred"]) == (
        "norm",
        "blk.0.attn_norm",
        H,
        False,
    )
    assert (product["kind"], product["stem"], product["bias"]) == ("product", "blk.0.attn_output", True)


def test_a_difference_and_a_weight_that_was_computed_with_are_not() -> None:
    assert "residual" not in told(PLAIN, embedding=0, layers_0_attn_out=4, layers_0_residual=6)
    assert "attn_norm" in told(PLAIN, embedding=0, layers_0_attn_norm=2)
    PLAIN.nodes[2].derived = True  # 1 + w
    try:
        assert "attn_norm" not in told(PLAIN, embedding=0, layers_0_attn_norm=2)
    finally:
        PLAIN.nodes[2].derived = False


def test_what_a_product_is_made_of_becomes_a_stage_where_it_is_none() -> None:
    placed = Placement((Tap("embedding", (0,)), Tap("layers.0.attn_out", (4,))), {})
    widened, made = made_of_weights(PLAIN, placed)
    assert [tap.stage for tap in widened.taps] == [
        "embedding",
        "layers.0.attn_output.input",
        "layers.0.attn_out",
    ]
    assert made[-1]["sources"] == ["layers.0.attn_output.input"]


def test_what_was_told_is_read_back() -> None:
    made = told(PLAIN, embedding=0, layers_0_attn_norm=2, layers_0_attn_out=4)
    read = read_operations([*made.values()])
    assert [link.kind for _, links in read.values() for link in links] == ["rows", "norm", "product"]


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        [5],
        [{"stage": "q"}],
        [{"stage": "q", "sources": [], "links": [{"kind": "sum"}]}],
        [{"stage": "q", "sources": ["a"], "links": [{"kind": "sum"}]}],
        [{"stage": "q", "sources": ["a"], "links": [{"kind": "guess"}]}],
        [{"stage": "q", "sources": ["a"], "links": [{"kind": "product", "stem": 3}]}],
        [{"stage": "q", "sources": ["a"], "links": [{"kind": "product", "columns": [[4, 2]]}]}],
        [{"stage": "q", "sources": ["a"], "links": [{"kind": "times", "number": float("inf")}]}],
        [{"stage": "q", "sources": ["a"], "links": [{"kind": "product", "more": 1}]}],
    ],
)
def test_what_is_told_in_another_form_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="how stages are made"):
        read_operations(wrong)
