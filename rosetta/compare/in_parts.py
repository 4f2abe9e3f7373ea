"""A stage too large to be held whole: the attention scores of a long prompt, computed anew a few heads at a time.

Letters: T = tokens, N = heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from rosetta.graph import Node
from rosetta.ops.attention import of_heads
from rosetta.runtimes.runtime import Runtime

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class InParts:
    """A stage by how it is computed. Two that are one object are equal in every value.

    Args:
        shape: of the whole, [N, T, T].
        heads: those that are held at once, in order.
        of: the stage of some heads, computed anew each time: [heads, T, T].
        device: where it is computed.
    """

    shape: tuple[int, ...]
    heads: Sequence[range]
    of: Callable[[range], Tensor]
    device: str

    def to(self, device: str) -> InParts:
        """The same stage on a device."""
        if device == self.device:
            return self
        return replace(self, of=lambda heads: self.of(heads).to(device), device=device)

    def first(self) -> Tensor:
        """Of the first head."""
        return self.of(range(1))

    def last(self) -> Tensor:
        """Of the last head."""
        return self.of(range(self.shape[0] - 1, self.shape[0]))


Value = Tensor | InParts


def computed_in_parts(
    runtime: Runtime, node: Node, inputs: Sequence[Tensor], heads: Sequence[range]
) -> InParts:
    """A stage computed from these inputs whenever some of its heads are asked for."""
    total, tokens = heads[-1].stop, len(inputs[0])

    def of(some: range) -> Tensor:
        return runtime.compute(node, [of_heads(x, some, total) for x in inputs])

    return InParts((total, tokens, tokens), heads, of, runtime.cache.device)


def seen_by(value: Value, some: range, total: int) -> Tensor:
    """What some of all heads see of a stage: queries, keys, values, or scores that are computed in parts."""
    return value.of(some) if isinstance(value, InParts) else of_heads(value, some, total)


def each_part(judge: Callable[..., Result], *values: Value) -> list[Result]:
    """What a function of tensors gives of each part of some values of one shape; a value held whole is one part."""
    split = next((value for value in values if isinstance(value, InParts)), None)
    if split is None:
        return [judge(*values)]
    # No name is given to a part here: it would live on while the next one is computed.
    return [judge(*(_part(value, heads) for value in values)) for heads in split.heads]


def _part(value: Value, heads: range) -> Tensor:
    return value.of(heads) if isinstance(value, InParts) else value[heads.start : heads.stop]
