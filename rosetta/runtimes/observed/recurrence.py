"""Recurrent and linear-attention layers of a foreign run: projections, convolution, state, norm and gate."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.runtimes.observed.attention import norm_source
from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.stage_table import CONVOLUTION, RECURRENT_OUT
from rosetta.runtimes.observed.taps import Tap


def recurrent_taps(graph: Graph, layer: int) -> Iterator[Tap]:
    """Stages of a layer with a convolution or a state; none where it has neither."""
    prefix = f"layers.{layer}."
    parted = [stem for stem in graph.stems(layer) if stem.startswith("ssm_conv1d_")]
    for stem in parted:  # queries, keys and values each by itself
        yield Tap(prefix + stem, (_activated(graph, graph.consuming(layer, stem)[-1]),))
    for stem in ("attn_q", "attn_k", "attn_v") if parted else ():
        found = [i for i in graph.consuming(layer, stem) if graph[i].kind == "product"]
        if len(found) == 1:
            yield Tap(prefix + stem.removeprefix("attn_"), (found[0],))
    convolutions = graph.consuming(layer, *CONVOLUTION)[-1:]
    for i in convolutions:
        yield Tap(prefix + "ssm_conv", (_activated(graph, i),))
    entering = [i for i in graph.consuming(layer, "attn_qkv") if graph[i].kind == "product"]
    if convolutions and len(entering) == 1:
        yield Tap(prefix + "ssm_in", (max(graph.consuming(layer, "attn_qkv")),))
    leaving = ("attn_output",) if parted else RECURRENT_OUT
    out = [i for i in graph.consuming(layer, *leaving) if graph[i].kind == "product"]
    if len(out) != 1:
        return
    gated = graph.bare(graph[out[0]].inputs[0])
    yield Tap(prefix + "ssm_norm", (gated,))
    yield Tap(prefix + ("attn_out" if parted else "ssm_out"), (max(graph.consuming(layer, *leaving)),))
    scanned = _before_norm_and_gate(graph, gated)
    if scanned != gated:
        yield Tap(prefix + "ssm_scan", (scanned,))


def _activated(graph: Graph, i: int) -> int:
    """The convolution after its cut to the tokens and its activation, where they are all that follows."""
    while True:
        following = graph.consumers[i]
        if len(following) != 1 or graph[following[0]].kind not in ("view", "slice", "act"):
            return i
        i = following[0]
        if graph[i].kind == "act":
            return i


def _before_norm_and_gate(graph: Graph, i: int) -> int:
    """What the state gave: the node before a norm, and before a product with what an activation was applied to."""
    while True:
        source = norm_source(graph, i)
        if source is None:
            source = _ungated(graph, i)
        if source is None:
            return i
        i = source


def _ungated(graph: Graph, i: int) -> int | None:
    live = [graph.bare(j) for j in graph.live_inputs(i)]
    if len(live) != 2:
        return None
    if graph[i].kind == "act":  # gate and product in one: act(first) · second
        return live[1]
    acts = [graph[j].kind == "act" for j in live]
    if graph[i].kind != "mul" or sum(acts) != 1:
        return None
    return live[acts.index(False)]
