"""Graphs: what an architecture may not say of its stages."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from rosetta.graph import TOKENS, Graph, Stage, build_graph
from rosetta.ops.factors import Factors
from rosetta.ops.lookup import Embedding

WIDE = Factors("gain.weight", "embedding_length")


def graph_of(*layer: Stage) -> Graph:
    """One layer behind an embedding."""
    before = [Stage("embedding", Embedding(), (TOKENS,))]
    return build_graph(before, [layer], [], lambda _: {"embedding_length": 8, "vocab_size": 4})


def test_stages_of_a_layer_have_its_number_and_so_have_their_inputs() -> None:
    graph = graph_of(Stage("a", WIDE, ("embedding",)), Stage("b", WIDE, ("a",)))
    assert [(node.name, node.inputs) for node in graph][1:] == [
        ("layers.0.a", ("embedding",)),
        ("layers.0.b", ("layers.0.a",)),
    ]
    assert graph.dims["blk.0.gain.weight"] == (8,)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ([Stage("a", WIDE, ("embeding",))], "layers.0.a is computed from embeding, but no stage before it"),
        ([Stage("a", WIDE, ("b",)), Stage("b", WIDE, ("a",))], "layers.0.a is computed from layers.0.b, but"),
        ([Stage("a", WIDE, ("embedding",)), Stage("a", WIDE, ("a",))], "two stages are called layers.0.a"),
    ],
)
def test_what_an_architecture_mistakes_is_said(layer: Iterable[Stage], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        graph_of(*layer)
