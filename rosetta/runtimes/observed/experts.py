"""Experts of a foreign run: the routing, what each chosen expert computes, the shared expert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rosetta.runtimes.observed.graph import Graph, weight_stem
from rosetta.runtimes.observed.stage_table import EXPERTS_IN
from rosetta.runtimes.observed.taps import Tap


def router(graph: Graph, layer: int) -> list[int]:
    """Products with the router's weight."""
    return graph.consuming(layer, "ffn_gate_inp")


def expert_taps(graph: Graph, layer: int) -> Iterator[Tap]:
    """The stages of a block of experts; none where the layer has none, or its experts are not in one operation."""
    prefix = f"layers.{layer}."
    down = [i for i in graph.consuming(layer, "ffn_down_exps") if graph[i].kind == "product"]
    entering = [i for i in graph.consuming(layer, *EXPERTS_IN) if graph[i].kind == "product"]
    if len(down) == 1 and entering and len(graph[down[0]].inputs) >= 2:
        rows, chosen = graph[down[0]].inputs[:2]
        act = graph.bare(rows)
        width = graph[act].dims[-1]
        yield Tap(prefix + "ffn_act", (act,), "experts", width)
        yield from _gate_and_up(graph, layer, width)
        weights = _expert_weights(graph, down[0])
        if weights is not None and graph[chosen].integer:
            factor = _sum_factor(graph, layer, down[0])
            yield Tap(prefix + "ffn_router", (chosen, weights), "routing", 1, factor=factor)
    shared = graph.consuming(layer, "ffn_down_shexp") if router(graph, layer) else []
    if shared:
        out, gates = max(shared), graph.consuming(layer, "ffn_gate_inp_shexp")
        gated = _gated(graph, out, gates)
        if not gates:
            yield Tap(prefix + "ffn_shared", (out,))
        else:
            if gated is not None:
                yield Tap(prefix + "ffn_shared", (gated,))
            yield Tap(prefix + "ffn_down_shexp", (out,))
            yield Tap(prefix + "ffn_gate_inp_shexp", (max(gates),))


def _gate_and_up(graph: Graph, layer: int, width: int) -> Iterator[Tap]:
    prefix = f"layers.{layer}."
    fused = graph.consuming(layer, "ffn_gate_up_exps")
    if fused and graph[max(fused)].dims[-1] == 2 * width:
        yield Tap(prefix + "ffn_gate", (max(fused),), "experts", width, slice(0, width))
        yield Tap(prefix + "ffn_up", (max(fused),), "experts", width, slice(width, 2 * width))
        return
    for op, stem in (("ffn_gate", "ffn_gate_exps"), ("ffn_up", "ffn_up_exps")):
        found = graph.consuming(layer, stem)
        if found:
            yield Tap(prefix + op, (max(found),), "experts", width)


def _expert_weights(graph: Graph, down: int) -> int | None:
    """What the experts' outputs are multiplied by before they are added up; their biases and scales come before."""
    i: int | None = down
    while i is not None:
        following = [j for j in graph.consumers[i] if graph[j].kind in ("view", "add", "mul", "experts")]
        i = following[0] if following else None
        if i is None or graph[i].kind not in ("mul", "experts"):
            continue
        others = [graph.bare(k) for k in graph.live_inputs(i) if not graph.depends(k, down)]
        if len(others) == 1 and not graph[others[0]].weights:
            return _unscaled(graph, others[0])
    return None


def _sum_factor(graph: Graph, layer: int, down: int) -> float:
    """The number that the sum of the chosen experts is multiplied with before a shared one is added: as well each
    weight may be."""
    shared = graph.consuming(layer, "ffn_down_shexp")
    for j in graph.downstream(down, frozenset({"view", "add", "mul", "experts", "slice"})) if shared else ():
        before_shared = not graph.depends(j, max(shared))  # one behind it is of the residual
        if graph[j].kind == "scale" and graph[j].factor and before_shared:
            sums = [k for k in graph.downstream(j, frozenset({"view"})) if graph[k].kind == "add"]
            if any(graph.depends(k, max(shared)) for k in sums):
                return graph[j].factor or 1.0
    return 1.0


def _unscaled(graph: Graph, weights: int) -> int:
    """The router's weights before the experts' own factors, which llama.cpp multiplies the experts' outputs by."""
    if graph[weights].kind != "mul":
        return weights
    live = [graph.bare(j) for j in graph.live_inputs(weights)]
    own = [j for j in live if any(weight_stem(name) == "ffn_down_exps" for name in graph[j].weights)]
    return next(j for j in live if j not in own) if len(live) == 2 and len(own) == 1 else weights


def _gated(graph: Graph, out: int, gates: Sequence[int]) -> int | None:
    """The shared expert after its own gate; None where it has none, or is multiplied by none."""
    for j in graph.downstream(out, frozenset({"view", "scale"})) if gates else ():
        if graph[j].kind == "mul" and graph.depends(j, gates[0]):
            return j
    return None
