"""What the next stages of a run will read of files that are far away, told to those who fetch it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile, takewhile

from torch import Tensor

from rosetta.compare.lane import Lane
from rosetta.graph import TOKENS, Node
from rosetta.ops.lookup import Embedding
from rosetta.sources import RemotePath
from rosetta.weight import Weight

Wanted = tuple[str, tuple[int, int]]
"""A file by its name in the store, and bytes of it from … to."""


def expect_stages(lane: Lane, first: Node) -> None:
    """Say of a stage and those of its layer behind it what they read; nothing where the side lies on this machine."""
    path = lane.model.container.path
    if not isinstance(path, RemotePath):
        return
    behind = dropwhile(lambda node: node.name != first.name, lane.graph)
    nodes = takewhile(lambda node: node.layer == first.layer, behind)
    path.store.expect([wanted for node in nodes for wanted in _reads(lane, node)])


def rows_in_use(lane: Lane, node: Node) -> dict[str, list[int]]:
    """For each table that a stage looks tokens up in, by full name, the rows of this run."""
    tokens = lane.values.get(TOKENS)
    if not isinstance(node.op, Embedding) or not isinstance(tokens, Tensor):
        return {}
    return {name: tokens.tolist() for name in node.required}


def _reads(lane: Lane, node: Node) -> Iterator[Wanted]:
    rows = rows_in_use(lane, node)
    for name in node.tensors:
        weight = lane.model.weights.get(name)
        if weight is None:
            continue
        for path, start, nbytes in weight.container.places(weight.entry.name).values():
            if isinstance(path, RemotePath):
                yield from ((path.inside, span) for span in _spans(weight, start, nbytes, rows.get(name)))


def _spans(weight: Weight, start: int, nbytes: int, rows: list[int] | None) -> list[tuple[int, int]]:
    """The bytes that are read of a tensor: all, or those of some rows."""
    height = weight.dims[0] if weight.dims else 0
    if rows is None or not height or nbytes % height:
        return [(start, start + nbytes)]
    row = nbytes // height
    chosen = (index for index in sorted(set(rows)) if 0 <= index < height)
    return [(start + index * row, start + (index + 1) * row) for index in chosen]
