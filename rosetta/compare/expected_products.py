"""What a stage computes of both copies of its matrix, announced before they are compared: their rows are decoded for
the comparison, and are multiplied with while they are at hand."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rosetta.compare.in_parts import Value
from rosetta.compare.lane import Lane
from rosetta.graph import Node
from rosetta.ops.lookup import Embedding
from rosetta.weight import Weight
from rosetta.weight_cache import Products

FEW = 128  # tokens: of more, multiplying takes longer than fetching, and logits' noise held whole takes their memory


def expect_products(
    reference: Lane, subject: Lane, nodes: tuple[Node, Node], for_subject: Mapping[str, Value]
) -> None:
    """Let a matrix that both sides multiply with be multiplied with while its copies are compared.

    Args:
        reference, subject: the sides.
        nodes: the stage as each of them has it.
        for_subject: the reference's stages on the subject's device.
    """
    kept = reference.runtime.cache.kept
    if all(isinstance(node.op, Embedding) for node in nodes):
        kept.expect(None)
    if not _multiply_alike(reference, subject):
        return
    a, b = _matrix(reference, nodes[0]), _matrix(subject, nodes[1])
    theirs = nodes[1].inputs[0]
    inputs = reference.values.get(nodes[0].inputs[0]), for_subject.get(theirs), subject.values.get(theirs)
    if a is None or b is None or not all(isinstance(x, Tensor) and len(x) <= FEW for x in inputs):
        return
    x, local, own = (x for x in inputs if isinstance(x, Tensor))
    kept.expect(Products(a, b, x, [local] if own is local else [local, own]))


def _multiply_alike(a: Lane, b: Lane) -> bool:
    """Whether both sides compute, whole stages and on one device."""
    return (
        a.runtime.computes
        and a.runtime.chunks is b.runtime.chunks is None
        and a.runtime.cache.device == b.runtime.cache.device
    )


def _matrix(lane: Lane, node: Node) -> Weight | None:
    """The matrix that a stage multiplies with; None where it is of another kind, or lacks it."""
    name = node.op.links[0].matrix
    return None if name is None else lane.model.weights.get(lane.runtime.step(node).full_name(name))
