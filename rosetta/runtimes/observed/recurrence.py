"""Recurrent and linear-attention layers of a foreign run: convolution, norm and gate, projections."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.stage_table import CONVOLUTION, RECURRENT_OUT
from rosetta.runtimes.observed.taps import Tap


def recurrent_taps(graph: Graph, layer: int) -> Iterator[Tap]:
    """Stages of a layer with a convolution or a state; none where it has neither."""
    prefix = f"layers.{layer}."
    for i in graph.consuming(layer, *CONVOLUTION)[-1:]:
        yield Tap(prefix + "ssm_conv", (_activated(graph, i),))
    out = [i for i in graph.consuming(layer, *RECURRENT_OUT) if graph[i].kind == "product"]
    if len(out) == 1:
        yield Tap(prefix + "ssm_norm", (graph.bare(graph[out[0]].inputs[0]),))
        yield Tap(prefix + "ssm_out", (max(i for i in graph.consuming(layer, *RECURRENT_OUT)),))


def _activated(graph: Graph, i: int) -> int:
    """The convolution after its cut to the tokens and its activation, where they are all that follows."""
    while True:
        following = graph.consumers[i]
        if len(following) != 1 or graph[following[0]].kind not in ("view", "slice", "act"):
            return i
        i = following[0]
        if graph[i].kind == "act":
            return i
