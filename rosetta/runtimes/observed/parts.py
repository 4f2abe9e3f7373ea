"""Where a layer's parts begin and end, as every stage finder asks it."""

from __future__ import annotations

from collections import Counter

from rosetta.runtimes.observed.attention import norm_source
from rosetta.runtimes.observed.graph import Graph, weight_layer, weight_stem
from rosetta.runtimes.observed.stage_table import DECOMPRESSION, FEED_FORWARD, MIXER


def last_consumer(graph: Graph, layer: int | None, *stems: str) -> int | None:
    """The last node of a chain that consumes a weight, its bias, its scale; None where there is none, or more than one
    chain, of which none can be told from another.
    """
    found = graph.consuming(layer, *stems)
    if not found or used_again(graph, layer, *stems):
        return None
    first = found[0]
    return max(i for i in found if graph.depends(i, first))


def used_again(graph: Graph, layer: int | None, *stems: str) -> bool:
    """Whether a weight of these stems is consumed more than once in a layer."""
    uses = Counter(
        name
        for i in graph.consuming(layer, *stems)
        for name in graph[i].weights
        if weight_layer(name) == layer and weight_stem(name) in stems
    )
    return any(count > 1 for count in uses.values())


def entrance(graph: Graph, layer: int, feed_forward: bool) -> int | None:
    """The first product of a layer's attention (or recurrence), or of its feed-forward network: of the dense one
    where it stands beside experts, whose inputs may be normed otherwise. Weights that mix several streams come before
    attention and are no part of it.
    """
    stems = [s for s in graph.stems(layer) if (s in FEED_FORWARD) == feed_forward and s not in DECOMPRESSION]
    own = [stem for stem in stems if stem in ("ffn_gate", "ffn_up") or stem.startswith(MIXER)]
    found = [
        i
        for stem in own or stems
        for i in graph.consuming(layer, stem)
        if graph[i].kind == "product" and graph[i].inputs
    ]
    return min(found, default=None)


def normed(graph: Graph, product: int) -> tuple[int | None, int]:
    """(the norm before a projection or None, what the norm, or else the projection, is computed from)."""
    entering = unscaled = graph.bare(graph[product].inputs[0])
    while graph[unscaled].kind in ("view", "scale") and graph.live_inputs(unscaled):
        unscaled = graph.live_inputs(unscaled)[0]
    source = norm_source(graph, unscaled)
    if source is None or _ends_a_part(graph, unscaled, weight_layer(graph[product].weights[0])):
        return None, _before_factors(graph, entering, unscaled)
    return unscaled, source


def _before_factors(graph: Graph, entering: int, unscaled: int) -> int:
    """What a part of the model without a norm reads: what a sum reads as well, before the numbers that the part itself
    multiplies it with."""
    found = entering
    while not any(graph[i].kind == "add" for i in graph.downstream(found, frozenset({"view"}))):
        if found == unscaled:
            return entering
        found = graph.live_inputs(found)[0]
    return found


def _ends_a_part(graph: Graph, norm: int, layer: int | None) -> bool:
    """Whether a norm stands behind a part of the model and not before the next one, as it does where that one's own or
    the sum of the stream and what it norms is lost: it is another layer's, or the embedding's, or attention's in a
    layer that has one behind its network too.
    """
    placed = {(weight_layer(name), weight_stem(name)) for name in graph[norm].weights}
    of_attention = (layer, "post_attention_norm") in placed and "post_ffw_norm" in graph.stems(layer)
    of_embedding = layer is not None and (None, "token_embd_norm") in placed
    return of_attention or of_embedding or any(of not in (layer, None) for of, _ in placed)


def is_norm(graph: Graph, i: int) -> bool:
    return any("norm" in weight_stem(name) for name in graph[i].weights) or graph[i].kind == "norm"
