"""What a hypothesis is given and what it proposes. A hypothesis is one file in `hypotheses/`, found by listing it.

Each such module has a function `propose(fault) -> Iterator[Proposal]` and says nothing about whether the proposal
is true: the engine finds that out by running the stage again with the repair in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rosetta.compare.pair import ModelPair, Outcome
from rosetta.compare.results import Side
from rosetta.model import Model, Patch
from rosetta.transformer import Op, stage_name
from rosetta.weight import Weight

Role = Literal["reference", "subject"]


@dataclass(frozen=True)
class Repair:
    """What undoes a cause in memory: settings put in place of the file's, weights read in another way."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Patch] = field(default_factory=dict)

    def applied(self, model: Model) -> Model:
        return model.repaired(self.overrides, self.patches)


@dataclass(frozen=True)
class Proposal:
    """A suspected cause and its repair.

    Args:
        kind: one of the finding kinds (README).
        role: which side the repair changes.
        repair: what to change.
        tensor, key: canonical name of what is accused; one of the two.
        declared, actual: what the file says and what is true, where that is a value.
        message: what is wrong with the numbers; starts with the tensor or key.
        recommendation: what to change in the converter or loader, for the file at hand.
    """

    kind: str
    role: Role
    repair: Repair
    message: str
    recommendation: str
    tensor: str | None = None
    key: str | None = None
    declared: Any = None
    actual: Any = None


@dataclass(frozen=True)
class Suspect:
    """A side that may be at fault, beside the one it is compared with."""

    role: Role
    model: Model
    other: Model


@dataclass(frozen=True)
class Fault:
    """A faulty stage, with everything that a hypothesis may look at.

    Args:
        layer: its layer; None outside the layers.
        op: the reference's operation.
        pair: both models (with the repairs made so far) and the stages reached.
        outcome: what the stage gave.
    """

    layer: int | None
    op: Op
    pair: ModelPair
    outcome: Outcome

    @property
    def stage(self) -> str:
        return stage_name(self.layer, self.op.name)

    @property
    def subject(self) -> Suspect:
        """The side that is not believed."""
        return Suspect("subject", self.pair.subject.model, self.pair.reference.model)

    @property
    def reference(self) -> Suspect:
        """The side that is believed, unless its file contradicts itself."""
        return Suspect("reference", self.pair.reference.model, self.pair.subject.model)

    def side(self, role: Role) -> Side:
        reference = self.pair.reference_side
        return reference if role == "reference" else ("left" if reference == "right" else "right")

    def names(self) -> Iterator[str]:
        """Full canonical names of the weights that the stage uses."""
        prefix = "" if self.layer is None else f"blk.{self.layer}."
        yield from (prefix + name for name in (*self.op.weights, *self.op.optional))

    def accused_weights(self) -> Iterator[tuple[Suspect, Weight]]:
        """Weights of the stage that may be at fault: on either side those that contradict their own config,
        and the subject's that differ from the reference's."""
        for name in self.names():
            for suspect in (self.subject, self.reference):
                weight = suspect.model.weights.get(name)
                if weight is None:
                    continue
                if suspect.model.mismatch(name) is not None or (
                    suspect.role == "subject" and self._differs(name)
                ):
                    yield suspect, weight

    def _differs(self, name: str) -> bool:
        pair = self.pair.weight_pair(name)
        return pair is not None and pair.state != "identical"
