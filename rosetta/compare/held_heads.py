"""Which heads of a stage are computed together, where it is too large to be held whole."""

from __future__ import annotations

from collections.abc import Sequence

from rosetta.compare.in_parts import InParts
from rosetta.compare.lane import Lane
from rosetta.graph import Node
from rosetta.ops.attention import heads_at_once

# Copies of a stage that are not held where both sides compute it alike: the subject's by its own inputs and by the
# reference's, and what is made of their difference.
SPARED = 4


def heads_held_at_once(
    reference: Lane, subject: Lane, nodes: tuple[Node, Node], *, alike: bool = False
) -> Sequence[range]:
    """The heads that are held together of a stage, or of its input; none where it is held whole: as it is small, as
    the sides' heads are not of one number, or as one side was observed.

    Args:
        reference, subject: the sides.
        nodes: the stage as each of them has it.
        alike: whether both compute it alike from the same inputs, and hold it once.
    """
    for value in reference.inputs(nodes[0]):
        if isinstance(value, InParts):
            return value.heads
    runtimes = reference.runtime, subject.runtime
    whole_prompts = all(runtime.computes and runtime.chunks is None for runtime in runtimes)
    if not whole_prompts or not all(node.op.by_head for node in nodes):
        return ()
    sizes = {
        tuple(value.shape[:2] for name in node.inputs if (value := lane.values.get(name)) is not None)
        for node in nodes
        for lane in (reference, subject)
    }
    if len(sizes) > 1 or len(next(iter(sizes))) < len(nodes[0].inputs):
        return ()
    [[(tokens, heads), (_, kv_heads)]] = sizes  # of queries and keys
    if heads % kv_heads:
        return ()
    found = heads_at_once(heads, kv_heads, tokens, SPARED if alike else 1)
    return found if len(found) > 1 else ()
