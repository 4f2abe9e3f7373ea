"""One side of a run as far as it has come: who computes, and the stages that are still needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from rosetta.compare.in_parts import InParts, Value
from rosetta.compare.pairing import Role
from rosetta.graph import Graph, Node
from rosetta.model import Model
from rosetta.ops.op import NotComputable
from rosetta.runtimes.runtime import Runtime


class InputMissing(NotComputable):
    """A stage that neither side can compute because of an earlier one, which has said why: no fault of its own."""


@dataclass
class Lane:
    """One side of a run.

    Args:
        runtime: who computes, or has computed.
        graph: its stages; of as many layers as the longer side has.
        values: the stages it has come to, by full name, as long as a stage to come is computed from them.
        private: its stages that the other side lacks, computed where another is computed from them.
        passed: stages that the run does not come to, for a side lacked them before it was repaired; computed likewise.
        handed_on: what the last layer that could be computed handed on: one that neither side can compute is passed.
    """

    runtime: Runtime
    graph: Graph
    values: dict[str, Value] = field(default_factory=dict)
    private: frozenset[str] = frozenset()
    passed: frozenset[str] = frozenset()
    handed_on: Value | None = None

    @property
    def model(self) -> Model:
        """What is run."""
        return self.runtime.model

    def inputs(self, node: Node) -> list[Value | None]:
        """The values that a stage is computed from; None for one that could not be computed."""
        return [self.values.get(name) for name in node.inputs]

    def has_inputs(self, node: Node) -> bool:
        """Whether all of them are there."""
        return all(name in self.values for name in node.inputs)

    def computed(self, node: Node, values: dict[str, Value]) -> Tensor:
        """A stage from values of its inputs, which may be the other side's; of an observed side, as it was seen.

        Raises:
            NotComputable: one of them is missing, or the runtime cannot compute it.
        """
        return self.runtime.compute(node, self.gathered(node, values) if self.runtime.computes else ())

    def gathered(self, node: Node, values: dict[str, Value]) -> list[Tensor]:
        """The inputs of a stage out of values that may be the other side's; those that the run does not come to are
        computed first.

        Raises:
            NotComputable: one of them is missing.
        """
        wanted = [name for name in node.inputs if name not in values and self._is_left_out(name)]
        values = {**values, **{name: self.computed(self.graph[name], values) for name in wanted}}
        missing = next((name for name in node.inputs if name not in values), None)
        if missing is not None:
            said = missing if node.layer is None else missing.removeprefix(f"layers.{node.layer}.")
            raise InputMissing(f"its input {said} could not be computed on either side")
        return tensors(values, node.inputs)

    def _is_left_out(self, name: str) -> bool:
        return name in self.graph and (name in self.private or name in self.passed)

    def moved(self, value: Value) -> Value:
        """A value on this side's device."""
        if isinstance(value, Tensor) and not value.is_floating_point():
            return value
        return value.to(self.runtime.cache.device)

    def put(self, name: str, value: Value | None) -> None:
        """Take over the value of a stage."""
        if name in self.graph.handed_on:
            self.handed_on = value = self.handed_on if value is None else value
        if value is None:
            self.values.pop(name, None)
        else:
            self.values[name] = value

    def forget(self, names: Iterable[str]) -> None:
        """Drop values that no stage is computed from any more."""
        for name in names:
            self.values.pop(name, None)


def tensors(values: dict[str, Value], names: Sequence[str]) -> list[Tensor]:
    """Values that are held whole."""
    found = []
    for name in names:
        value = values[name]
        assert not isinstance(value, InParts)
        found.append(value)
    return found


def computed_or_reason(
    lane: Lane, node: Node, values: dict[str, Value], reasons: dict[Role, NotComputable], role: Role
) -> Tensor | None:
    """A stage of one side, or None with the reason."""
    try:
        return lane.computed(node, values)
    except NotComputable as reason:
        reasons[role] = reason
        return None
