"""The stages of a layer that changes one of several streams, and of the short cut beside its attention (AltUp and
LAuReL, Gemma 3n)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.parts import entrance, is_norm, last_consumer, normed
from rosetta.runtimes.observed.taps import Tap

# stem of a norm's weight -> the stage that the norm is, and the sum that it is added in
SUMMED = {
    "laurel_post_norm": ("laurel_post_norm", "laurel"),
    "post_attention_norm": ("attn_post_norm", "attn_residual"),
    "post_ffw_norm": ("ffn_post_norm", "ffn_residual"),
}


def altup_taps(graph: Graph, layer: int, tokens: int) -> Iterator[Tap]:
    """The streams that such a layer reads, predicts and corrects, the norms behind its parts, the sums that they are
    added in, and what its network reads; of any other layer nothing.

    Args:
        graph: of a run.
        layer: its number.
        tokens: how many the run had.
    """
    if not graph.consuming(layer, "altup_router"):
        return
    yield from _streams(graph, layer, tokens)
    for stem, (stage, total) in SUMMED.items():
        norm = last_consumer(graph, layer, stem)
        if norm is None or not is_norm(graph, norm):
            continue
        yield Tap(f"layers.{layer}.{stage}", (norm,))
        added = [i for i in graph.downstream(norm, frozenset({"view"})) if graph[i].kind == "add"]
        if len(added) == 1:
            yield Tap(f"layers.{layer}.{total}", (added[0],))
    first = entrance(graph, layer, True)
    if first is not None:
        yield Tap(f"layers.{layer}.attn_laurel", (normed(graph, first)[1],))


def _streams(graph: Graph, layer: int, tokens: int) -> Iterator[Tap]:
    """All streams: as the layer reads them, as it predicts them, and as it corrects them."""
    coefficients = last_consumer(graph, layer, "altup_predict_coef")
    predicted = None if coefficients is None else _sum_behind(graph, coefficients, "product")
    if coefficients is None or predicted is None:
        return
    read = [j for j in graph.live_inputs(predicted) if not graph.depends(j, coefficients)]
    count = math.isqrt(graph[coefficients].count // tokens)
    width = graph[predicted].count // (tokens * count)
    if len(read) == 1:
        name = f"layers.{layer - 1}.residual" if layer else "altup_proj"
        yield Tap(name, (graph.bare(read[0]),), form="heads", width=width)
    yield Tap(f"layers.{layer}.altup_predicted", (predicted,), form="heads", width=width)
    correction = last_consumer(graph, layer, "altup_correct_coef")
    corrected = None if correction is None else _sum_behind(graph, correction, "mul")
    if corrected is not None:
        yield Tap(f"layers.{layer}.altup_corrected", (corrected,), form="heads", width=width)


def _sum_behind(graph: Graph, coefficients: int, by: str) -> int | None:
    """The sum of streams with what coefficients make of them."""
    made = [i for i in graph.downstream(coefficients, frozenset({"view", "scale"})) if graph[i].kind == by]
    found = [i for j in made for i in graph.downstream(j, frozenset({"view"})) if graph[i].kind == "add"]
    return found[0] if found else None
