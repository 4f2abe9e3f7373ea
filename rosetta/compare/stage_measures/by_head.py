"""The largest difference of each attention head: one at fault among others that are right is a cause of its own.

Letters: T = tokens, N = heads, D = values of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.compare.in_parts import InParts, Value, each_part
from rosetta.compare.stage_measures import SeenStage

FIELD = "by_head"
HEAD_AXIS = {"q": 1, "k": 1, "v": 1, "q_rope": 1, "k_rope": 1, "attn_scores": 0, "attn_context": 1}
"""Of the stages that have values of each head, [T, N, D]; of the scores [N, T, T]."""


def measured(seen: SeenStage) -> list[float] | None:
    """A number a head; None of a stage that is not of heads, or of which they cannot be told apart."""
    axis = HEAD_AXIS.get(seen.op)
    held_whole = not isinstance(seen.left, InParts) and not isinstance(seen.right, InParts)
    if axis is None or not (held_whole or seen.faulty):
        return None
    a, b = (_of_heads(value, seen.heads) for value in (seen.left, seen.right))
    if len(a.shape) != 3:
        return None
    return [value for part in each_part(lambda a, b: _largest(a, b, axis), a, b) for value in part]


def _of_heads(value: Value, heads: int | None) -> Value:
    """A stage in which heads lie beside each other, [T, N·D], with an axis of them."""
    if isinstance(value, Tensor) and value.dim() == 2 and heads and value.shape[1] % heads == 0:
        return value.view(len(value), heads, -1)
    return value


def _largest(a: Tensor, b: Tensor, axis: int) -> list[float]:
    gap = (a - b).abs()
    largest: list[float] = torch.amax(gap, dim=[i for i in range(gap.dim()) if i != axis]).tolist()
    return largest
