"""Factors that transformers multiplies results by and a converter multiplies into the weights: the stage, which is of
the GGUF file, is what comes after them. And one of the values of attention, which a GGUF file has behind them: what is
computed of these is the stage without it, where the architecture has such a factor at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rosetta.architectures import find_architecture
from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.placing import Placement
from rosetta.runtimes.observed.taps import Tap

VALUE_SCALE = "attention.value_scale"
OF_VALUES = frozenset({"attn_context", "attn_out"})


def after_factors(graph: Graph, placement: Placement, config: Mapping[str, Any]) -> Placement:
    """The placement with those stages behind their factors, and with the factors of values that are none of the
    architecture's in what is computed of them.

    Args:
        graph: of the run.
        placement: its stages.
        config: as transformers sees it.
    """
    architecture = find_architecture(str(config.get("model_type")))
    if architecture is None:
        return placement
    taps = []
    for tap in placement.taps:
        op = tap.stage.rpartition(".")[2]
        if op in OF_VALUES and VALUE_SCALE not in architecture.llamacpp.reads:
            tap = replace(tap, factor=1.0)
        taps.append(_behind(graph, tap) if op in architecture.huggingface.folded else tap)
    return replace(placement, taps=tuple(taps))


def _behind(graph: Graph, tap: Tap) -> Tap:
    """A stage behind the factor that follows it, a number or what the model holds; as it is where none does: the cosine
    of a rotation is computed."""
    (node,) = tap.nodes
    for j in graph.downstream(node, frozenset({"view"})):
        others = [i for i in graph[j].inputs if not graph.live[i]]
        held = graph[j].kind == "mul" and len(graph.live_inputs(j)) == 1
        held &= all(graph[i].kind == "leaf" for i in others)
        if graph[j].kind == "scale" or held:
            return replace(tap, nodes=(j,))
    return tap
