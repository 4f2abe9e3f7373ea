"""The graph that a foreign runtime computed, as far as its stages need it: who consumes which weight and what of whom.

A runtime says what it did in the few kinds of operation below; `placing` finds the stages in it. No values are kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal[
    "product",  # of matrices, with a weight or of two activations: inputs are (x,), (q, k) or (probabilities, v)
    "add",
    "mul",  # or a quotient
    "scale",  # by a number
    "norm",  # over the last dimension; its weight may be in the same operation or in a `mul` after it
    "reduce",  # mean, variance: what norms written out are made of
    "softmax",
    "rope",
    "attention",  # scores, softmax and context in one: inputs are (q, k, v)
    "act",
    "conv",
    "scan",
    "rows",  # of a table
    "view",  # the same values in other dims, another dtype, another memory
    "slice",  # some of the values
    "repeat",
    "join",
    "select",
    "experts",  # what leaves a block of experts: inputs are the experts' outputs and their weights
    "leaf",
    "other",
]

BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass
class Node:
    """One tensor that a runtime computed.

    Args:
        kind: what computed it.
        inputs: nodes it was computed from, in the operation's order; weights are not among them.
        weights: canonical names of the weights it consumes, whether directly or through views of them.
        dims: row-major.
        key: what the runtime finds it by in the next run.
        name: what the runtime calls it.
        integer: whether it holds indices.
        interleaved: of a rotation, whether adjacent values are a pair; None where that cannot be told. Of a slice,
            whether it takes every other value.
        factor: of a scale, the number; None where that cannot be told.
        columns: of a slice, which of what its input has for each token it takes, as runs [start, stop); None where that
            cannot be told.
        derived: whether a weight that it consumes was computed with before: 1 + w.
        centred: of a norm, whether the mean is taken off; None where that cannot be told.
    """

    kind: Kind
    inputs: tuple[int, ...]
    weights: tuple[str, ...]
    dims: tuple[int, ...]
    key: Hashable
    name: str
    integer: bool = False
    interleaved: bool | None = None
    factor: float | None = None
    columns: tuple[tuple[int, int], ...] | None = None
    derived: bool = False
    centred: bool | None = None

    @property
    def count(self) -> int:
        return math.prod(self.dims)

    @property
    def operation(self) -> str:
        """What the runtime calls the operation; empty where it is none."""
        return str(self.key[1]) if isinstance(self.key, tuple) else ""


def joined_runs(runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Runs [start, stop) in their order, those that touch as one.

    >>> joined_runs([(4, 8), (8, 12), (0, 4)])
    ((4, 12), (0, 4))
    """
    found: list[tuple[int, int]] = []
    for start, stop in runs:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)


def weight_layer(name: str) -> int | None:
    """The layer of a weight by its canonical name; None outside the layers."""
    found = BLOCK.match(name)
    return int(found[1]) if found else None


def weight_stem(name: str) -> str:
    """`blk.3.attn_q.weight` -> `attn_q`, `blk.0.ssm_a` -> `ssm_a`."""
    name = BLOCK.sub("", name, count=1)
    stem, _, suffix = name.rpartition(".")
    return stem if stem and suffix in ("weight", "bias", "scale", "input_scale") else name


class Graph:
    """All nodes of a run in order, and what follows from them.

    Args:
        nodes: in the order of computation; a node's inputs come before it.
        output: the node that holds the logits.
    """

    def __init__(self, nodes: Sequence[Node], output: int) -> None:
        self.nodes, self.output = list(nodes), output

    def __getitem__(self, i: int) -> Node:
        return self.nodes[i]

    @cached_property
    def consumers(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for j in dict.fromkeys(node.inputs):
                found[j].append(i)
        return found

    @cached_property
    def live(self) -> list[bool]:
        """Whether a node depends on a weight. Masks, positions and angles do not."""
        found: list[bool] = []
        for node in self.nodes:
            found.append(bool(node.weights) or any(found[j] for j in node.inputs))
        return found

    @cached_property
    def layers(self) -> list[int | None]:
        """The last layer whose weights a node depends on."""
        found: list[int | None] = []
        for node in self.nodes:
            seen = [layer for name in node.weights if (layer := weight_layer(name)) is not None]
            seen += [layer for j in node.inputs if (layer := found[j]) is not None]
            found.append(max(seen, default=None))
        return found

    def live_inputs(self, i: int) -> list[int]:
        inputs = self[i].inputs[:1] if self[i].kind == "rope" and self[i].weights else self[i].inputs
        return [j for j in inputs if self.live[j]]

    def bare(self, i: int) -> int:
        """The node whose values these are, in whatever dims."""
        while self[i].kind == "view" and self[i].inputs:
            i = self[i].inputs[0]
        return i

    def depends(self, i: int, on: int) -> bool:
        """Whether `i` was computed from `on`, or is it."""
        rest, seen = [i], set()
        while rest:
            j = rest.pop()
            if j == on:
                return True
            if j > on and j not in seen:
                seen.add(j)
                rest.extend(self[j].inputs)
        return False

    def downstream(self, i: int, through: frozenset[str]) -> Iterator[int]:
        """Nodes computed from `i`, in order, going on only through kinds of operation and never through weights."""
        rest, seen = list(self.consumers[i]), set()
        while rest:
            j = min(rest)
            rest.remove(j)
            if j in seen:
                continue
            seen.add(j)
            yield j
            if self[j].kind in through and not self[j].weights:
                rest.extend(self.consumers[j])

    def consuming(self, layer: int | None, *stems: str) -> list[int]:
        """Nodes that consume a weight of these stems in a layer, in order."""
        return [i for stem in stems for i in self._by_weight.get((layer, stem), ())]

    @cached_property
    def _by_weight(self) -> dict[tuple[int | None, str], list[int]]:
        found: dict[tuple[int | None, str], list[int]] = {}
        for i, node in enumerate(self.nodes):
            if node.kind != "rows" and not self.live_inputs(i):
                continue  # a weight in another form: 1 + w
            for key in dict.fromkeys((weight_layer(name), weight_stem(name)) for name in node.weights):
                found.setdefault(key, []).extend(self._taking_part(i))
        return found

    def _taking_part(self, i: int) -> list[int]:
        """The node that an activation and the weights of node `i` make: of the factors of the chosen experts, what is
        multiplied with them."""
        node = self[i]
        if node.kind != "rows" or not all(name.endswith(".scale") for name in node.weights):
            return [i]
        return [j for j in self.downstream(i, frozenset({"view"})) if self[j].kind == "mul"]

    def stems(self, layer: int | None) -> list[str]:
        """Stems of the weights consumed in a layer, in the order of their use."""
        return [stem for (number, stem) in self._by_weight if number == layer]

    @cached_property
    def block_count(self) -> int:
        return 1 + max((layer for layer in self.layers if layer is not None), default=-1)
