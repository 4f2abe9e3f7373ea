"""Factors that transformers multiplies results by and a converter multiplies into the weights: the stage, which is of
the GGUF file, is what comes after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rosetta.architectures import find_architecture
from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.placing import Placement
from rosetta.runtimes.observed.taps import Tap


def after_factors(graph: Graph, placement: Placement, config: Mapping[str, Any]) -> Placement:
    """The placement with those stages behind their factors.

    Args:
        graph: of the run.
        placement: its stages.
        config: as transformers sees it.
    """
    architecture = find_architecture(str(config.get("model_type")))
    folded = frozenset() if architecture is None else architecture.huggingface.folded
    return replace(
        placement,
        taps=tuple(
            _behind(graph, tap) if tap.stage.rpartition(".")[2] in folded else tap for tap in placement.taps
        ),
    )


def _behind(graph: Graph, tap: Tap) -> Tap:
    """A stage behind the factor that follows it; as it is where none does."""
    (node,) = tap.nodes
    for j in graph.downstream(node, frozenset({"view"})):
        if graph[j].kind == "scale" or (graph[j].kind == "mul" and len(graph.live_inputs(j)) == 1):
            return replace(tap, nodes=(j,))
    return tap
