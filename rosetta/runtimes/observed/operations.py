"""Which stages of a foreign run are made of others with a file's weights alone: products, norms, rows of a table.

Of an architecture that nobody described they are what can be computed again; of all others it is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from rosetta.runtimes.observed.attention import written_out
from rosetta.runtimes.observed.capture import layer_of, sort_key
from rosetta.runtimes.observed.graph import Graph, weight_layer, weight_stem
from rosetta.runtimes.observed.placing import Placement
from rosetta.runtimes.observed.taps import Tap

TOKENS = "tokens"
NOT_READ = "it is not said in the form that is read how stages are made"
KINDS = frozenset(("product", "experts", "norm", "rows", "factor", "times", "sum"))
INPUT = ".input"
"""How the name of a stage ends that is what a weight is multiplied with, where no other stage is that."""


@dataclass(frozen=True)
class Link:
    """One operation of those that make a stage.

    Args:
        kind: `product`, `experts` (products of the chosen experts), `norm`, `rows`, `factor` (of a weight), `times` (a
            number) or `sum` (of stages).
        stem: of its weight, with its layer: `blk.0.attn_q`; empty where it has none.
        bias: whether it adds one; of a factor, whether the product's is added behind it.
        width: of a norm, how many values are normed together.
        centred: of a norm, whether their mean is taken off.
        number: of `times`.
        columns: of a product, which of its values are taken, as runs [start, stop); empty: all.
    """

    kind: str
    stem: str = ""
    bias: bool = False
    width: int = 0
    centred: bool = False
    number: float = 1.0
    columns: tuple[tuple[int, int], ...] = ()


def read_operations(stated: Any) -> dict[str, tuple[tuple[str, ...], tuple[Link, ...]]]:
    """What a run says of how its stages are made: the stages that each is made of, and its links.

    Args:
        stated: as `made_of_weights` gives it, perhaps read from a file.

    Raises:
        ValueError: it is none of that.
    """
    found = {}
    for made in stated if isinstance(stated, list) else [stated]:
        if not isinstance(made, dict) or not isinstance(made.get("stage"), str):
            raise ValueError(NOT_READ)
        sources, links = made.get("sources"), made.get("links")
        if not isinstance(sources, list) or not isinstance(links, list) or not sources or not links:
            raise ValueError(NOT_READ)
        read = tuple(_link(link) for link in links)
        wanted = 2 if read[0].kind in ("sum", "experts") else 1
        if len(sources) != wanted or not all(isinstance(source, str) for source in sources):
            raise ValueError(NOT_READ)
        found[made["stage"]] = (tuple(sources), read)
    return found


def _link(stated: Any) -> Link:
    if not isinstance(stated, dict) or not stated.keys() <= {field.name for field in fields(Link)}:
        raise ValueError(NOT_READ)
    columns = stated.get("columns", ())
    if not isinstance(columns, list | tuple) or not all(_is_run(run) for run in columns):
        raise ValueError(NOT_READ)
    link = Link(**{"kind": "", **stated, "columns": tuple((start, stop) for start, stop in columns)})
    plain = isinstance(link.stem, str) and isinstance(link.bias, bool) and isinstance(link.centred, bool)
    number = type(link.width) is int and type(link.number) in (int, float) and math.isfinite(link.number)
    if link.kind not in KINDS or not plain or not number:
        raise ValueError(NOT_READ)
    return link


def _is_run(stated: Any) -> bool:
    plain = isinstance(stated, list | tuple) and len(stated) == 2 and all(type(x) is int for x in stated)
    return plain and 0 <= stated[0] < stated[1]


Made = tuple[tuple[str | int, ...], list[Link]]
"""What a stage is made of, stages or nodes that are none, and how, first link first."""


def made_of_weights(graph: Graph, placement: Placement) -> tuple[Placement, list[dict[str, Any]]]:
    """The stages that weights alone make of others, and the sums of two.

    Args:
        graph: of a run.
        placement: its stages.

    Returns:
        The placement, with the stages that it needs beside; and for each stage that is made so a table of its name,
        of the stages that it is made of (`tokens`: the token ids) and of its links, first one first, as JSON has them.
    """
    held = {graph.bare(tap.nodes[0]): tap.stage for tap in reversed(placement.taps) if _is_plain(tap)}
    routings = {layer_of(tap.stage): tap.stage for tap in placement.taps if tap.form == "routing"}
    more: dict[str, Tap] = {}
    found: list[dict[str, Any]] = []
    for tap in placement.taps:
        made = None
        if _is_plain(tap):
            made = _made(graph, tap.nodes[0], held)
        elif tap.form == "experts" and tap.order is None and len(tap.nodes) == 1:
            made = _made_by_experts(graph, tap, held, routings.get(layer_of(tap.stage)))
        if made is None:
            continue
        sources, links = made
        named = [_named(source, links[0], held, more) for source in sources]
        found.append({"stage": tap.stage, "sources": named, "links": [vars(link) for link in links]})
    taps = sorted((*placement.taps, *more.values()), key=lambda tap: _place(tap.stage, found))
    return replace(placement, taps=tuple(taps)), found


def _named(source: str | int, link: Link, held: dict[int, str], more: dict[str, Tap]) -> str:
    """The stage that a source is: a new one, where it is none yet."""
    if isinstance(source, str):
        return source
    name = _input_of(link.stem)
    more.setdefault(name, Tap(name, (source,)))
    held[source] = name
    return name


def _place(stage: str, found: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Where a stage stands in a run: an input before the first that is made of it."""
    if not stage.endswith(INPUT):
        return (*sort_key(stage), 1)
    return min((*sort_key(made["stage"]), 0) for made in found if stage in made["sources"])


def _is_plain(tap: Tap) -> bool:
    """Whether a stage is all of one node's values, in the order in which the runtime has them."""
    return (
        tap.form in ("features", "heads")
        and len(tap.nodes) == 1
        and tap.columns is None
        and tap.order is None
        and tap.factor == 1.0
    )


def _input_of(stem: str) -> str:
    layer = weight_layer(stem + ".")
    return f"layers.{layer}.{weight_stem(stem + '.weight')}{INPUT}" if layer is not None else stem + INPUT


def _made_by_experts(graph: Graph, tap: Tap, held: Mapping[int, str], routing: str | None) -> Made | None:
    """A stage that is the chosen experts' products with a stage; None where it is not."""
    node, stems = graph[tap.nodes[0]], _stems(graph, tap.nodes[0])
    if node.kind != "product" or node.derived or len(stems) != 1 or routing is None:
        return None
    source = held.get(graph.bare(node.inputs[0]))
    if source is None or any(not graph[j].integer for j in node.inputs[1:]) or len(node.inputs) > 2:
        return None
    columns = () if tap.columns is None else ((tap.columns.start, tap.columns.stop),)
    return (source, routing), [Link("experts", stems.pop(), columns=columns)]


def _stems(graph: Graph, i: int) -> set[str]:
    """The weights of a node, with their layers and without what they are of a matrix."""
    return {name.removesuffix(".weight").removesuffix(".bias") for name in graph[i].weights}


def _made(graph: Graph, i: int, held: Mapping[int, str]) -> Made | None:
    """What a node is made of with weights alone; None where it is not."""
    links: list[Link] = []
    biased: str | None = None  # the stem whose bias was added behind the product
    columns: tuple[tuple[int, int], ...] = ()  # what was taken of the product
    i = graph.bare(i)
    while True:
        if links and i in held:
            return ((held[i],), links[::-1]) if biased is None and not columns else None
        node, live, stems = graph[i], graph.live_inputs(i), _stems(graph, i)
        if node.derived:
            return None
        open_product = biased is not None or bool(columns)
        if not open_product and (norm := _norm(graph, i)) is not None:
            i, link = norm
            links.append(link)
            continue
        if node.kind == "product" and len(stems) == 1 and len(live) == 1:
            [stem] = stems
            if f"{stem}.weight" not in node.weights or biased not in (None, stem):
                return None
            bias = biased == stem or f"{stem}.bias" in node.weights
            links.append(Link("product", stem, bias, columns=columns))
            source = graph.bare(live[0])
            return (held.get(source, source),), links[::-1]
        if node.kind == "rows" and not live:
            whole = not open_product and node.weights == ("token_embd.weight",)
            return ((TOKENS,), [*links, Link("rows", "token_embd")][::-1]) if whole else None
        if node.kind == "add" and not links and not open_product and not node.weights:
            return _sum(graph, i, held)
        if len(live) != 1:
            return None
        if node.kind == "slice" and not open_product and not links and node.columns:
            columns = node.columns
        elif (
            node.kind == "add"
            and biased is None
            and len(node.weights) == 1
            and node.weights[0].endswith(".bias")
        ):
            biased = node.weights[0].removesuffix(".bias")
        elif node.kind == "mul" and len(node.weights) == 1 and node.weights[0].endswith(".scale"):
            factor = node.weights[0].removesuffix(".scale")
            if columns or biased not in (None, factor):
                return None
            links.append(Link("factor", factor, bias=biased is not None))
        elif node.kind == "scale" and node.factor is not None and not open_product:
            links.append(Link("times", number=node.factor))
        else:
            return None
        i = graph.bare(live[0])


def _sum(graph: Graph, i: int, held: Mapping[int, str]) -> Made | None:
    """A node that is the sum of two stages; None where it is not."""
    parts = [held.get(graph.bare(j)) for j in graph.live_inputs(i)]
    plain = graph[i].operation in SUMS and len(graph[i].inputs) == 2 and len(set(parts)) == 2
    sources = tuple(part for part in parts if part is not None)
    return (sources, [Link("sum")]) if plain and len(sources) == 2 else None


SUMS = frozenset(("ADD", "add", "__add__", "__radd__", "__iadd__", "add_"))
"""What ggml and torch call a sum; a difference is of the same kind."""


def _norm(graph: Graph, i: int) -> tuple[int, Link] | None:
    """(what a norm with a weight is computed from, the norm); None where a node is the last of none."""
    weights: list[str] = []
    for _ in range(3):
        node, live = graph[i], graph.live_inputs(i)
        if node.derived:
            return None
        weights += node.weights
        source, centred = None, node.centred
        if node.kind == "norm" and live:
            source = graph.bare(live[0])
        elif node.kind == "mul" and len(live) == 2:
            source = written_out(graph, *live)
            centred = source is not None and source not in [graph.bare(j) for j in live]
        if source is not None:
            stems = {name.removesuffix(".weight").removesuffix(".bias") for name in weights}
            if len(stems) != 1 or centred is None:
                return None
            [stem] = stems
            bias = f"{stem}.bias" in weights
            return (
                (source, Link("norm", stem, bias, node.dims[-1], centred))
                if f"{stem}.weight" in weights
                else None
            )
        if not (node.weights and node.kind in ("mul", "add") and len(live) == 1):
            return None
        i = graph.bare(live[0])
    return None
