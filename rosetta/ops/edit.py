"""How a repair, or the imitation of a runtime, computes an operation otherwise than its architecture says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rosetta.ops.chain import Chain, chain
from rosetta.ops.op import Op


@dataclass(frozen=True)
class OpEdit:
    """An operation computed otherwise than its architecture says.

    Args:
        kind: the class of the operations that it concerns.
        fields: those that are otherwise, with their values.
    """

    kind: type[Op]
    fields: tuple[tuple[str, Any], ...]

    def at(self, stage: str, layer: int | None, op: Op) -> Op:
        """The operation of a stage, by the stage's name without its layer, and that."""
        return self.of(op)

    def of(self, op: Op) -> Op:
        """The operation with those fields; one of another class as it is.

        >>> from rosetta.ops.pointwise import Add
        >>> OpEdit(Add, (("scale", "residual_scale"),)).of(Add())
        Add(scale='residual_scale')
        """
        if isinstance(op, Chain):
            return replace(op, ops=tuple(self.of(one) for one in op.ops))
        if type(op) is not self.kind:
            return op
        own: Any = op  # every operation is a frozen dataclass
        edited: Op = replace(own, **dict(self.fields))
        return edited


@dataclass(frozen=True)
class Followed:
    """A stage to which something is done that its architecture does not say.

    Args:
        stage: its name without the layer.
        then: what is done to its result.
    """

    stage: str
    then: Op

    def at(self, stage: str, layer: int | None, op: Op) -> Op:
        """The operation of a stage, followed by the other where it is that stage."""
        return chain(op, self.then) if stage == self.stage else op


@dataclass(frozen=True)
class Exchanged:
    """A stage of which one operation is another than its architecture says.

    Args:
        stage: its name without the layer.
        op: the operation, alone or one of a chain.
        by: what is computed in its place.
        layer: the only layer in which it is; None: it is in all.
    """

    stage: str
    op: Op
    by: Op
    layer: int | None = None

    def at(self, stage: str, layer: int | None, op: Op) -> Op:
        """The operation of a stage, with the other in place of the one where it is that stage."""
        if stage != self.stage or self.layer not in (None, layer):
            return op
        if isinstance(op, Chain):
            return replace(op, ops=tuple(self.by if one == self.op else one for one in op.ops))
        return self.by if op == self.op else op


Edit = OpEdit | Followed | Exchanged
"""How something is computed otherwise than its architecture says."""
