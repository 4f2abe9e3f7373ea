"""Whether a stage is the same in two runs over the same tokens, one of which was repaired: then it is not run again."""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.compare.in_parts import Value
from rosetta.compare.lane import Lane
from rosetta.graph import Node
from rosetta.model import Model


def equal_inputs(lane: Lane, node: Node, twin: Lane, theirs: Node) -> bool:
    """Whether a stage is computed from the same values in two runs, bit for bit."""
    pairs = zip(lane.inputs(node), twin.inputs(theirs), strict=False)
    return len(node.inputs) == len(theirs.inputs) and all(_equal(a, b) for a, b in pairs)


def _equal(a: Value | None, b: Value | None) -> bool:
    """Whether two values of a stage are there and the same, bit for bit."""
    if a is None or b is None or a is b:
        return a is not None and b is not None and isinstance(a, Tensor)
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def reads_alike(a: Model, node: Node, b: Model, other: Node) -> bool:
    """Whether two models of one side read the same weights and settings in an operation."""
    names = [*node.tensors]
    return (
        a.architecture == b.architecture
        and (node.op, node.inputs) == (other.op, other.inputs)
        and (node.layer is None or (node.layer < a.block_count) == (node.layer < b.block_count))
        and all(a.weights.get(name) == b.weights.get(name) for name in names)
        and all(a.contradiction(name) == b.contradiction(name) for name in names)
        and all(a.config.get(key) == b.config.get(key) for key in node.keys)
    )
