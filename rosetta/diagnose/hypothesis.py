"""What a hypothesis is given and what it proposes. A hypothesis is one file in `hypotheses/`, found by listing it.

Each such module has a function `propose(fault) -> Iterator[Proposal]` and says nothing about whether the proposal
is true: the engine finds that out by running the stage again with the repair in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rosetta.compare.options import LIVE
from rosetta.compare.outcome import Outcome
from rosetta.compare.pair import ModelPair
from rosetta.compare.pairing import Role
from rosetta.compare.results import Side
from rosetta.compare.settings import agree
from rosetta.compare.unrecorded import unrecorded_behind
from rosetta.compare.weights import compare_weights, readable
from rosetta.config import Value
from rosetta.errors import RosettaError
from rosetta.graph import Node
from rosetta.model import Model, Patch
from rosetta.ops.edit import Edit
from rosetta.ops.op import NotComputable
from rosetta.runtimes.trace import RecordedRun
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

SAMPLED_ROWS, SAMPLED_COLUMNS = 16, 128
CLOSE = 0.3  # relative: a wrong order of rows gives about 1.4, a copy in two bits less than this
ABSURD = 1e5  # no trained weight is that large; a misread exponent is


@dataclass(frozen=True)
class Repair:
    """What undoes a cause in memory: settings put in place of the file's, weights read in another way, operations
    computed in another."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Patch] = field(default_factory=dict)
    operations: tuple[Edit, ...] = ()

    def applied(self, model: Model) -> Model:
        return model.repaired(self.overrides, self.patches).computed_otherwise(*self.operations)


@dataclass(frozen=True)
class Proposal:
    """A suspected cause and its repair.

    Args:
        kind: one of the finding kinds (README).
        role: which side the repair changes.
        repair: what to change.
        message: what is wrong with the numbers; starts with the tensor or key.
        recommendation: what to change in the converter or loader, for the file at hand.
        tensor, key: canonical name of what is accused; one of the two.
        partner: the other tensor of an exchange.
        declared, actual: what the file says and what is true, where that is a value.
        alternatives: other kinds that the same evidence fits.
        from_reference: what the repair takes from the other side.
        taken: of a damaged region, how many weights that is.
        moves: whether it says where the values are; else only how far they were rounded.
    """

    kind: str
    role: Role
    repair: Repair
    message: str
    recommendation: str
    tensor: str | None = None
    key: str | None = None
    partner: str | None = None
    declared: Any = None
    actual: Any = None
    alternatives: tuple[str, ...] = ()
    from_reference: str | None = None
    taken: int = 0
    moves: bool = True


@dataclass(frozen=True)
class Suspect:
    """A side that may be at fault, beside the one it is compared with."""

    role: Role
    model: Model
    other: Model

    def counterpart(self, weight: Weight) -> Weight | None:
        """The other side's copy of a weight, where it has one of the dims that this side's config demands."""
        other = self.other.weights.get(weight.name)
        return other if other is not None and self.other.contradiction(weight.name) is None else None


@dataclass(frozen=True)
class Fault:
    """A faulty stage, with everything that a hypothesis may look at.

    Args:
        node: the stage, as the reference has it.
        pair: both models (with the repairs made so far) and the stages reached.
        outcome: what the stage gave.
    """

    node: Node
    pair: ModelPair
    outcome: Outcome

    @property
    def stage(self) -> str:
        """The stage's full name."""
        return self.node.name

    @property
    def other_node(self) -> Node | None:
        """The stage as the subject has it."""
        return self.pair.subject.graph.get(self.stage)

    @property
    def layer(self) -> int | None:
        """Its layer; None outside the layers."""
        return self.node.layer

    @cached_property
    def stages(self) -> tuple[Node, ...]:
        """The stage, and those that it is computed from which an observed reference does not show: as we compute them
        in its place, what is otherwise there shows here."""
        if self.pair.observed is None:
            return (self.node,)
        graph = self.pair.subject.graph
        own = self.other_node or self.node
        return (self.node, *reversed(unrecorded_behind(graph, own.inputs, self.pair.observed)))

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Config keys that it reads, or an unrecorded stage behind it."""
        return tuple(dict.fromkeys(key for node in self.stages for key in node.keys))

    @property
    def subject(self) -> Suspect:
        """The side that is not believed."""
        return Suspect("subject", self.pair.subject.model, self.pair.reference.model)

    @property
    def reference(self) -> Suspect:
        """The side that is believed, unless its file contradicts itself."""
        return Suspect("reference", self.pair.reference.model, self.pair.subject.model)

    def side(self, role: Role) -> Side:
        """Which side a role is."""
        return self.pair.lanes.side(role)

    def names(self) -> Iterator[str]:
        """Full canonical names of the weights that the stage uses."""
        yield from self.node.tensors

    @property
    def recorded(self) -> bool:
        """Whether the reference is a recorded run: it has stages, and no weights to compare with."""
        return self.pair.observed is not None

    @property
    def recorded_value(self) -> Tensor | None:
        """The recorded value of the stage, which is held whole; None where the reference is no recorded run."""
        value = self.outcome.reference
        return value if self.recorded and isinstance(value, Tensor) else None

    @property
    def _recording(self) -> RecordedRun | None:
        observed = self.pair.observed
        return observed if isinstance(observed, RecordedRun) else None

    @property
    def settings_unknown(self) -> bool:
        """Whether the reference is a recorded run that does not say with which settings it was computed; a runtime of
        somebody else's says what its file does, and may compute with others."""
        if self._recording is None:
            return False
        facts = self._recording.recording.facts
        return not facts.get("config") or facts.get("runtime") in LIVE

    def input(self, index: int = 0) -> Tensor | None:
        """What the reference computes the stage from; None where that is not there, or not held whole."""
        value = self.pair.reference.values.get(self.node.inputs[index])
        return value if isinstance(value, Tensor) else None

    def computed(self, repair: Repair | None = None, stage: str | None = None) -> Tensor | None:
        """The subject's value of a stage from the reference's inputs, with a repair in place; None if it has none.

        Args:
            repair: what to change first.
            stage: its full name; this fault's by default. Of a stage that is not at hand only a recorded reference has
                inputs.
        """
        lane = self.pair.subject
        try:
            model = repair.applied(lane.model) if repair else lane.model
            if repair is not None and stage is None and len(self.stages) > 1:
                lane = self.pair.with_models(self.pair.reference.model, model).subject
                node = lane.graph.get(self.stage)
                return None if node is None else lane.computed(node, lane.values)
            node = model.graph.get(stage or self.stage)
            if node is None:
                return None
            inputs = [self._reference_value(name) for name in node.inputs]
            known = [value for value in inputs if value is not None]
            if len(known) < len(inputs):
                return None
            return lane.runtime.with_model(model).compute(node, known)
        except (NotComputable, RosettaError):
            return None

    def _reference_value(self, stage: str) -> Tensor | None:
        value = self.pair.reference.values.get(stage)
        if isinstance(value, Tensor):
            return value
        return None if self._recording is None else self.recorded_stage(stage)

    def recorded_stage(self, stage: str) -> Tensor | None:
        """A recorded stage, by full name."""
        assert self._recording is not None
        return self._recording.stage(stage)

    def agrees_at(self, repair: Repair, stage: str) -> bool:
        """Whether a repair brings a stage close to its recorded value: for asking after the other stages that it
        touches, before the run comes to them."""
        apart = self.distance_at(repair, stage)
        return apart is not None and apart <= CLOSE

    def distance_at(self, repair: Repair, stage: str | None = None) -> float | None:
        """How far a repair leaves a stage, the fault's own by default, from its recorded value, over that; None where
        one of both is missing."""
        truth = self.recorded_value if stage is None else self.recorded_stage(stage)
        value = self.computed(repair, stage)
        if truth is None or value is None:
            return None
        if truth.shape != value.shape:
            return math.inf
        gap, size = float((truth - value).norm()), float(truth.norm())
        return gap / size if size else (math.inf if gap else 0.0)

    def accused_weights(self, unreadable: bool = False) -> Iterator[tuple[Suspect, Weight]]:
        """Weights of the stage that may be at fault: the subject's that differ from the reference's, and on
        either side those that contradict their own config or are none that a model could have. Of a recorded
        run nothing says which.

        Args:
            unreadable: also those whose bytes are not those of their dtype, which cannot be decoded.
        """
        yield from ((s, w) for s, w in self._accused if unreadable or readable(w))

    def accused_matrices_and_originals(self) -> Iterator[tuple[Suspect, Weight, Weight]]:
        """Accused matrices that resemble the other side's copies, each with that, and either one as the one that may be
        at fault: what is wrong with a file shows in the other one's weights as well."""
        if self.recorded:
            return
        for suspect, weight in self.accused_weights():
            other = suspect.counterpart(weight)
            if other is None or len(weight.dims) != 2 or not looks_like(weight, other):
                continue
            yield suspect, weight, other
            yield (self.reference if suspect.role == "subject" else self.subject), other, weight

    @cached_property
    def _accused(self) -> list[tuple[Suspect, Weight]]:
        return list(self._found_accused())

    def _found_accused(self) -> Iterator[tuple[Suspect, Weight]]:
        if self.recorded:
            names = (name for node in self.stages if node.layer == self.layer for name in node.tensors)
            weights = (self.subject.model.weights.get(name) for name in dict.fromkeys(names))
            yield from ((self.subject, weight) for weight in weights if weight is not None)
            return
        for name in self.names():
            for suspect in (self.subject, self.reference):
                weight = suspect.model.weights.get(name)
                if weight is None:
                    continue
                contradicted = suspect.other.contradiction(name) is not None
                if suspect.model.contradiction(name) is not None or (
                    not contradicted
                    and self._differs(name)
                    and (suspect.role == "subject" or impossible(weight))
                ):
                    yield suspect, weight

    def in_some_blocks_only(self, name: str) -> bool:
        """Whether two quantised copies of a weight are equal in most blocks: what is wrong is not all of it."""
        pair = self.pair.weights.pair(name)
        return pair is not None and pair.in_some_blocks

    def _differs(self, name: str) -> bool:
        pair = self.pair.weights.pair(name)
        return pair is not None and pair.state != "identical"

    def changed_settings(self) -> dict[str, tuple[Value, Any]]:
        """Settings in which the subject differs from the reference: (the subject's, the reference's value)."""
        own, other = self.subject.model.config, self.subject.other.config
        return {
            key: (own[key], other[key].value)
            for key in own
            if key in other and not agree(key, own[key].value, other[key].value)
        }


def impossible(weight: Weight) -> str | None:
    """Why no trained or initialised model has such a weight; None where one might."""
    most = largest(weight)
    if math.isinf(most):
        return "it holds NaN or Inf"
    if most == 0 and not weight.name.endswith(".bias"):
        return "it is all zeros"
    return f"it holds values of {most:.3g}" if most > ABSURD else None


def largest(weight: Weight) -> float:
    """Largest magnitude of a weight's values; infinite where one is not finite."""
    return max(spread(lambda rows: _largest(weight.values(*rows)), row_ranges(weight)), default=0.0)


def _largest(values: Tensor) -> float:
    if not values.numel():
        return 0.0
    low, high = (float(bound) for bound in values.aminmax())
    return max(abs(low), abs(high)) if math.isfinite(low) and math.isfinite(high) else math.inf


def resembles(a: Weight, b: Weight) -> bool:
    """Whether two weights are copies of one, as far as their dtypes let one tell."""
    return looks_like(a, b) and compare_weights(a, b).state != "differing"


def looks_like(a: Weight, b: Weight, least: float = 0.8, either_sign: bool = False) -> bool:
    """A quick look at some rows: whether the values of two weights are correlated at least so much.

    A few values that no weight has are left out: a damaged block does not make two copies strangers."""
    if a.dims != b.dims or not (readable(a) and readable(b)):
        return False
    x, y = (w.corner(SAMPLED_ROWS, SAMPLED_COLUMNS).double() for w in (a, b))
    common = min(x.shape[-1], y.shape[-1])
    x, y = (z[..., :common].flatten() for z in (x, y))
    if torch.equal(x, y):
        return True
    sane = (x.abs() <= ABSURD) & (y.abs() <= ABSURD)  # neither is NaN
    if 2 * int(sane.sum()) < sane.numel():
        return False
    x, y = x[sane], y[sane]
    norm = float(x.norm() * y.norm())
    likeness = abs(float(x @ y)) if either_sign else float(x @ y)
    return norm > 0 and likeness >= least * norm
