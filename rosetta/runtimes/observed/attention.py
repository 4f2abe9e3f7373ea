"""The attention of each layer in a foreign run: which nodes are q, k and v, before and after rotation, the scores,
the context. Found by what is multiplied with what, not by names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rosetta.runtimes.observed.graph import Graph, weight_stem
from rosetta.runtimes.observed.stage_table import DECOMPRESSION

TO_SCORES = frozenset({"view", "scale", "add", "mul", "act", "select", "join", "slice"})
TO_CONTEXT = frozenset({"view", "slice", "select", "scale"})
MOVED = frozenset({"view", "slice", "repeat", "scale", "join", "rope"})
PURE = frozenset({"view", "slice", "repeat"})


@dataclass(frozen=True)
class Operand:
    """q or k as the scores see it, or v as the context does.

    Args:
        used: the node whose values enter the product, before repetition and scaling.
        before: the node before rotation; None where there is not exactly one.
        rotated: whether a rotation lies between them.
        interleaved: whether adjacent values are rotated together; None where that cannot be told.
        repeated: whether keys are repeated for the queries of their group before they are rotated.
        gathered: the dimensions of a head whose adjacent pairs come out of the rotation as two halves; None: none do.
    """

    used: int
    before: int | None
    rotated: bool
    interleaved: bool | None = None
    repeated: bool = False
    gathered: range | None = None


@dataclass(frozen=True)
class Attention:
    """One layer's attention.

    Args:
        layer: its number.
        q, k, v: what enters.
        scores: the node after softmax; None where the runtime computes all in one operation.
        product: the node of the context.
        heads: how many there are.
        sink: the node of what a sink leaves of the softmax, where the context is multiplied by that; None: it is part
            of the softmax, or there is none.
        value_factor: the number that values are multiplied with before they are weighted.
    """

    layer: int
    q: Operand
    k: Operand
    v: Operand
    scores: int | None
    product: int
    heads: int
    sink: int | None = None
    value_factor: float = 1.0


def attentions(graph: Graph) -> Iterator[Attention]:
    """The attention of each layer that has one, in order."""
    for i, node in enumerate(graph.nodes):
        layer = graph.layers[i]
        if layer is None or not graph.live[i]:
            continue
        if node.kind == "attention" and len(node.inputs) >= 3:
            q, k, v = (operand(graph, j) for j in node.inputs[:3])
            yield Attention(layer, q, k, v, None, i, _fused_heads(graph, i))
        elif node.kind == "softmax":
            yield from _around_softmax(graph, i, layer)


def _around_softmax(graph: Graph, softmax: int, layer: int) -> Iterator[Attention]:
    products = _products_above(graph, softmax)
    if len(products) != 1:
        return
    (scores_product,) = products
    context = next(
        (
            j
            for j in graph.downstream(softmax, TO_CONTEXT)
            if graph[j].kind == "product" and not graph[j].weights and len(graph[j].inputs) >= 2
        ),
        None,
    )
    if context is None:
        return
    first, second = graph[context].inputs[:2]
    probabilities, values = (first, second) if graph.depends(first, softmax) else (second, first)
    scores = graph.bare(probabilities)  # as the context sees them: after a cut, before other dims
    q, k = (operand(graph, j) for j in graph[scores_product].inputs[:2])
    dims = graph[scores].dims
    heads = 1
    for length in dims[:-2]:
        heads *= length
    layer = max(layer, graph.layers[context] or 0)
    v = operand(graph, values)
    factor = _factor_between(graph, values, v.used)
    drained = _drained(graph, context, scores_product)
    if drained is None:
        yield Attention(layer, q, k, v, scores, context, heads, value_factor=factor)
    else:
        yield Attention(layer, q, k, v, scores, drained[0], heads, drained[1], factor)


def _drained(graph: Graph, context: int, scores: int) -> tuple[int, int] | None:
    """(the context times what a sink leaves of it, the node of that): a factor of each head and token, computed from
    the same products as the softmax is."""
    for j in graph.downstream(context, PURE):
        if graph[j].kind != "mul" or graph[j].weights:
            continue
        others = [k for k in graph.live_inputs(j) if not graph.depends(k, context)]
        if len(others) == 1 and graph[others[0]].dims[-1] == 1 and graph.depends(others[0], scores):
            return j, others[0]
    return None


def _factor_between(graph: Graph, i: int, used: int) -> float:
    """The product of the numbers that lie between an operand and the node that it is read at."""
    factor = 1.0
    while i != used:
        if graph[i].kind == "scale":
            factor *= graph[i].factor or 1.0
        i = graph.live_inputs(i)[0]
    return factor


def _products_above(graph: Graph, softmax: int) -> set[int]:
    """Products of two activations that a softmax is taken of; one of a weight with it makes it no attention."""
    found, rest, seen = set(), graph.live_inputs(softmax), set()
    while rest:
        i = rest.pop()
        if i in seen:
            continue
        seen.add(i)
        node = graph[i]
        if node.kind == "product":
            if node.weights or len(node.inputs) < 2:
                return set()
            found.add(i)
        elif node.kind in TO_SCORES:
            rest.extend(graph.live_inputs(i))
    return found


def _fused_heads(graph: Graph, i: int) -> int:
    """Heads of an attention in one operation; ggml's has dims [tokens, heads, head size]."""
    dims = graph[i].dims
    return dims[-2] if len(dims) > 1 else 1


def operand(graph: Graph, i: int) -> Operand:
    """Where an operand of a product comes from."""
    used = _used(graph, i)
    region, frontier, rotated, interleaved = _above(graph, used)
    if not rotated and len(frontier) == 1:
        source = norm_source(graph, next(iter(frontier)))
        if source is not None:  # a norm, perhaps after the rotation
            later = operand(graph, source)
            if later.rotated:
                return Operand(used, later.before, True, later.interleaved)
    if not rotated:
        return Operand(used, used, False)
    gathered = _gathered(graph, used, region)
    if gathered is not None:
        interleaved = True
    if len(frontier) != 1:
        return Operand(used, None, True, interleaved, gathered=gathered)
    start = _sized(graph, next(iter(frontier)), region)
    pure = {start}
    for j in sorted(region):
        if graph[j].kind in PURE and graph[j].inputs and graph[j].inputs[0] in pure:
            pure.add(j)
    repeated = any(graph[j].kind == "repeat" for j in region)
    same = [j for j in sorted(pure) if graph[j].count == graph[used].count and not repeated]
    return Operand(used, same[0] if same else None, True, interleaved, repeated, gathered)


def _sized(graph: Graph, start: int, region: set[int]) -> int:
    """The node behind the number that a norm's result is multiplied with at once; `start` where there is none."""
    if norm_source(graph, start) is None:
        return start
    for j in graph.downstream(start, frozenset({"view"})):
        if j in region and graph[j].kind == "scale":
            return j
    return start


def _gathered(graph: Graph, used: int, region: set[int]) -> range | None:
    """Which dimensions of a head a rotation takes every other value of, and leaves as two halves."""
    turned = [j for j in region if graph[j].kind == "rope"]
    stepped = any(graph[j].kind == "slice" and graph[j].interleaved for j in region)
    again = any(graph[j].name == "stack" for j in region)  # pairs come out as they went in
    if not stepped or again or any(graph[j].interleaved for j in turned):
        return None
    width, count = graph[used].dims[-1], sum(graph[j].dims[-1] for j in turned)
    joins = [j for j in sorted(region) if graph[j].kind == "join" and graph[j].dims[-1] == width]
    first = graph[joins[-1]].inputs[0] if joins else used
    passed_first = count < width and not any(graph.depends(first, j) for j in turned)
    return range(width - count, width) if passed_first else range(count)


def _used(graph: Graph, i: int) -> int:
    """The node before other dims, repetition, and a factor that is one number; one by position is of the stage."""
    while True:
        node = graph[i]
        live = graph.live_inputs(i)
        one = node.kind == "mul" and all(graph[j].count == 1 for j in node.inputs if j not in live)
        if len(live) != 1 or node.weights or (node.kind not in ("view", "repeat", "scale") and not one):
            return i
        if node.kind == "scale" and norm_source(graph, graph.bare(live[0])) is not None:
            return i  # what is normed to another size than 1
        i = live[0]


def _above(graph: Graph, used: int) -> tuple[set[int], set[int], bool, bool | None]:
    """(nodes of moving and rotating, the nodes they start from, whether there is a rotation, its order)."""
    region: set[int] = set()
    frontier: set[int] = set()
    rotated, interleaved, rest = False, None, [used]
    while rest:
        i = rest.pop()
        if i in region or i in frontier:
            continue
        node, live = graph[i], graph.live_inputs(i)
        plain = node.kind in MOVED or (node.kind in ("mul", "add") and len(live) == 1)
        # Factors of a rotation may be stored.
        if not live or not plain or (node.weights and node.kind != "rope"):
            frontier.add(i)
            continue
        region.add(i)
        if node.kind == "rope":
            rotated = True
            interleaved = node.interleaved if interleaved is None else interleaved
        rest.extend(live)
    return region, frontier, rotated, interleaved


def norm_source(graph: Graph, i: int) -> int | None:
    """What a norm is computed from, given the last node of it (with its weight and bias); None if it is no norm."""
    for _ in range(4):
        node = graph[i]
        live = graph.live_inputs(i)
        if node.kind == "norm":
            return graph.bare(live[0]) if live else None
        if node.weights and node.kind in ("mul", "add") and len(live) == 1:
            i = graph.bare(live[0])
            continue
        if node.kind == "mul" and len(live) == 2:
            return written_out(graph, *live)
        if node.kind == "view" and live:
            i = live[0]
            continue
        return None
    return None


def written_out(graph: Graph, a: int, b: int) -> int | None:
    """What is divided by its own root mean square: x of x · (mean(x²) + ε)^-½, or of (x - mean(x)) · …"""
    for x, factor in ((a, b), (b, a)):
        if not _reduced(graph, factor):
            continue
        source = graph.bare(x)
        node = graph[source]
        if node.kind == "add" and len(node.inputs) == 2 and _reduced(graph, node.inputs[1]):
            source = graph.bare(node.inputs[0])
        return source
    return None


def _reduced(graph: Graph, i: int, steps: int = 6) -> bool:
    """Whether a node is little more than a mean or a variance."""
    for _ in range(steps):
        node = graph[i]
        if node.kind == "reduce":
            return True
        live = graph.live_inputs(i)
        if node.weights or len(live) != 1 or node.kind in ("product", "norm", "softmax", "conv"):
            return False
        i = live[0]
    return False


def context_of(graph: Graph, attention: Attention) -> tuple[int, int | None, int | None]:
    """(the node of the context, of the context after its gate or norm, of the output projection).

    Each is None where there is none.
    """
    start = attention.product
    for j in graph.downstream(start, TO_CONTEXT | {"mul", "add", "norm", "act"}):
        node = graph[j]
        if node.kind != "product" or not node.weights:
            continue
        if {weight_stem(name) for name in node.weights} <= DECOMPRESSION:
            return _decompressed(graph, j)
        return _before_projection(graph, start, j)
    return start, None, None


def _decompressed(graph: Graph, product: int) -> tuple[int, int | None, int | None]:
    for j in graph.downstream(product, TO_CONTEXT | {"mul", "add", "norm", "act"}):
        if graph[j].kind == "product" and graph[j].weights:
            return _before_projection(graph, product, j)
    return product, None, None


def _before_projection(graph: Graph, start: int, projection: int) -> tuple[int, int | None, int | None]:
    """The context is the last node that only moves the values of `start`; what lies between is a gate or a norm."""
    entering = graph.bare(graph[projection].inputs[0])
    chain, node = [], graph[projection].inputs[0]
    while node != start:
        chain.append(node)
        towards = [j for j in graph.live_inputs(node) if graph.depends(j, start)]
        if not towards:
            return start, None, projection
        node = towards[0]
    context = start
    for j in reversed(chain):
        if graph[j].kind not in ("view", "slice"):
            break
        context = j
    gated = entering if graph[entering].kind not in ("view", "slice") and entering != start else None
    return context, gated, projection
