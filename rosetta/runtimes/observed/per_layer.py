"""The tokens' rows, and the embeddings of which each layer reads a part of its own (Gemma 3n and 4)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.parts import last_consumer
from rosetta.runtimes.observed.taps import Tap


def rows_of_tokens(graph: Graph, table: str) -> int | None:
    """The tokens' rows of a table, and the number that they are multiplied with before anything else reads them."""
    found = [i for i in graph.consuming(None, table) if graph[i].kind == "rows"]
    return _multiplied(graph, found[0]) if len(found) == 1 else None


def per_layer_taps(graph: Graph, tokens: int) -> Iterator[Tap]:
    """The stages of a layer's own embeddings: the rows, the normed projection, and the sum of both.

    Args:
        graph: of a run.
        tokens: how many it had.
    """
    rows, normed = (
        rows_of_tokens(graph, "per_layer_token_embd"),
        last_consumer(graph, None, "per_layer_proj_norm"),
    )
    if rows is None or normed is None or not graph.block_count:
        return
    width = graph[rows].count // (tokens * graph.block_count)
    yield Tap("per_layer_token_embd", (rows,), form="heads", width=width)
    yield Tap("per_layer_model_proj", (normed,), form="heads", width=width)
    sums = [
        i
        for i in graph.downstream(normed, frozenset({"view"}))
        if graph[i].kind == "add"
        and {graph.bare(j) for j in graph[i].inputs} == {graph.bare(rows), graph.bare(normed)}
    ]
    if len(sums) == 1:
        yield Tap("per_layer_embedding", (_multiplied(graph, sums[0]),), form="heads", width=width)


def _multiplied(graph: Graph, i: int) -> int:
    """A node, and the number that it is multiplied with before anything else reads it."""
    while len(graph.consumers[i]) == 1:
        [after] = graph.consumers[i]
        numbers = [graph[j].count for j in graph[after].inputs if j != i]
        multiplied = graph[after].kind == "mul" and not graph[after].weights and numbers in ([], [1])
        if graph[after].kind not in ("view", "scale") and not multiplied:
            break
        i = after
    return i
