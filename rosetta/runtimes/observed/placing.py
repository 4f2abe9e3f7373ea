"""The stages of a foreign run: which node of its graph is which, by the weights consumed and the place among them.

What cannot be told is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rosetta.runtimes.observed.attention import attentions, norm_source
from rosetta.runtimes.observed.capture import sort_key
from rosetta.runtimes.observed.graph import Graph, weight_layer
from rosetta.runtimes.observed.layer import Layer
from rosetta.runtimes.observed.parts import entrance, is_norm, last_consumer, normed, used_again
from rosetta.runtimes.observed.per_layer import per_layer_taps, rows_of_tokens
from rosetta.runtimes.observed.stage_table import PROJECTIONS
from rosetta.runtimes.observed.taps import Tap


@dataclass(frozen=True)
class Placement:
    """The stages of a run.

    Args:
        taps: in the order of layers and stages.
        skipped: stage -> why it is not among them.
    """

    taps: tuple[Tap, ...]
    skipped: dict[str, str]


def place(graph: Graph, probed_tokens: int) -> Placement:
    """The stages that a graph holds.

    Args:
        graph: of a run.
        probed_tokens: how many tokens it had.
    """
    by_layer = {attention.layer: attention for attention in attentions(graph)}
    taps: dict[str, Tap] = {}
    skipped: dict[str, str] = {}
    streams = [_stream(graph, layer) for layer in range(graph.block_count)]
    mixed = [i is not None and graph.layers[i] == layer for layer, i in enumerate(streams)]
    again = [used_again(graph, layer, *PROJECTIONS) for layer in range(graph.block_count)]
    for layer in range(graph.block_count):
        if again[layer]:
            continue
        placer = Layer(graph, layer, streams[layer], by_layer.get(layer), probed_tokens, skipped)
        for tap in placer.taps():
            taps.setdefault(tap.stage, tap)
    final = _final_norm(graph)
    streams.append(norm_source(graph, final) if final is not None else None)
    mixed.append(mixed[-1] if mixed else False)
    again.append(False)
    for layer, stream in enumerate(streams):
        stage = f"layers.{layer - 1}.residual" if layer else "embedding"
        if stage in taps:
            continue  # of several streams
        if again[layer] or (again[layer - 1] and layer):
            skipped[stage] = "a layer beside it is run more than once"
        elif stream is None:
            skipped[stage] = "no norm or projection of one input follows it"
        elif mixed[layer]:
            rows = rows_of_tokens(graph, "token_embd") if stage == "embedding" else None
            if rows is None:
                skipped[stage] = "what follows reads a mixture of several streams"
            else:
                taps[stage] = Tap(stage, (rows,))
        else:
            taps[stage] = Tap(stage, (stream,))
    for layer in range(graph.block_count):
        untold = mixed[layer + 1] or again[layer] or again[layer + 1]
        source = None if untold else layer_output(graph, streams[layer + 1], layer)
        if source is not None:
            for tap in _sums(graph, layer, source, streams[layer], taps):
                taps.setdefault(tap.stage, tap)
    taps |= {tap.stage: tap for tap in per_layer_taps(graph, probed_tokens)}
    if final is not None:
        taps["final_norm"] = Tap("final_norm", (final,))
    taps["logits"] = Tap("logits", (graph.output,))
    return Placement(tuple(sorted(taps.values(), key=lambda tap: sort_key(tap.stage))), skipped)


def _final_norm(graph: Graph) -> int | None:
    """What the output head is a product of."""
    heads = [
        i for i, node in enumerate(graph.nodes) if node.kind == "product" and node.weights and node.inputs
    ]
    heads = [i for i in heads if graph.depends(graph.output, i) and weight_layer(graph[i].weights[0]) is None]
    if not heads:
        return None
    norm, source = normed(graph, heads[-1])
    if norm is not None:
        return norm
    # A factor between the two is the logits' own, where the norm is left out too.
    while graph[source].kind in ("view", "scale") and graph.live_inputs(source):
        source = graph.live_inputs(source)[0]
    return source


def _stream(graph: Graph, layer: int) -> int | None:
    """What enters a layer: the residual stream."""
    first = entrance(graph, layer, False)
    if first is None:
        first = entrance(graph, layer, True)
    return None if first is None else normed(graph, first)[1]


def layer_output(graph: Graph, stream: int | None, layer: int) -> int | None:
    """The last sum of a layer, before what scales it."""
    while stream is not None and graph[stream].kind in ("mul", "scale", "view"):
        live = graph.live_inputs(stream)
        stream = live[0] if len(live) == 1 else None
    if stream is None or graph[stream].kind != "add" or graph.layers[stream] != layer:
        return None
    return stream


def _sums(graph: Graph, layer: int, output: int, stream: int | None, taps: dict[str, Tap]) -> Iterator[Tap]:
    """What a layer's last sum adds: the network's output, after its norm where it has one."""
    prefix = f"layers.{layer}."
    attended = taps.get(prefix + "attn_residual")
    if attended is None and (stream is None or entrance(graph, layer, False) is not None):
        return
    known = attended.nodes[0] if attended is not None else stream
    others = [j for j in graph.live_inputs(output) if graph.bare(j) != known]
    if len(others) != 1:
        return
    added = others[0]
    while graph[added].kind in ("view", "scale"):
        added = graph[added].inputs[0]
    source = norm_source(graph, added)
    if source is not None and is_norm(graph, added):
        yield Tap(prefix + "ffn_post_norm", (added,))
        own = last_consumer(graph, layer, "post_ffw_norm_2")  # of experts, before the dense network is added
        source = source if own is None else norm_source(graph, own)
        if source is None:
            return
        added = source
    yield Tap(prefix + "ffn_out", (added,))
