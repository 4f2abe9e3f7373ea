"""The lockstep run: both sides advance one stage at a time, each stage is judged as soon as it is there.

Nothing is kept but the current layer, so memory grows with the largest layer and not with the model.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from rosetta.compare.in_parts import InParts, Value
from rosetta.compare.listener import Listener
from rosetta.compare.metrics import Metrics, difference, ends, in_figures, largest_gap, rms
from rosetta.compare.outcome import Explained, Outcome
from rosetta.compare.pair import ModelPair
from rosetta.compare.pairing import Role
from rosetta.compare.results import LocalError, NonFinite, Side, StageDetail, StageDiff, Status
from rosetta.compare.stage_measures import SeenStage, in_measures
from rosetta.compare.twin_runs import Twin
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.op import NotComputable
from rosetta.weight import Weight

SIDES: tuple[Side, Side] = ("left", "right")


class Diagnoser(Protocol):
    """What the lockstep asks for the cause of a faulty stage.

    Args:
        wrong_pair: whether the sides have turned out to be two models, of which no cause is looked for.
    """

    wrong_pair: bool

    def foresees_two_models(self, pair: ModelPair) -> bool:
        """Whether the sides are two models at sight, before any stage is compared."""
        ...

    def examine(self, node: Node, pair: ModelPair, outcome: Outcome) -> tuple[Model, Model] | None:
        """The (reference, subject) with the repairs that explain the fault in place; None where none does."""
        ...

    def rounded(self, pair: ModelPair) -> ModelPair | None:
        """The pair with the levels that the believed side's values have turned out to be rounded to at the last stage
        examined: its own rounding, which no one is at fault for. None where nothing of that kind was found."""
        ...


@dataclass(frozen=True)
class ExplainedStage:
    """A stage that an arithmetic explains.

    Args:
        name, layer: of the stage.
        explained: the arithmetic, and the local error without it.
        after: the local error with it.
    """

    name: str
    layer: int | None
    explained: Explained
    after: LocalError


@dataclass
class LockstepResult:
    """What a run found.

    Args:
        stages: one a stage, in order, `tokens` not among them.
        over_threshold: names of the stages over the threshold or not comparable.
        faulty_over: names of the faulty stages whose local error is over the threshold or not computable.
        brought_back: stages over the threshold as stored that the repairs bring back.
        explained: stages that a runtime legitimately computes otherwise, with what explains each and its local error.
        logits: (reference's, subject's) logits of all positions, where computed.
        stopped: whether the run ended early, at the first divergent stage.
    """

    stages: list[StageDiff] = field(default_factory=list)
    over_threshold: list[str] = field(default_factory=list)
    faulty_over: list[str] = field(default_factory=list)
    brought_back: list[str] = field(default_factory=list)
    explained: list[ExplainedStage] = field(default_factory=list)
    logits: tuple[Tensor | None, Tensor | None] = (None, None)
    stopped: bool = False


class Lockstep:
    """Runs a pair of models over one sequence of tokens.

    Args:
        pair: the two models as stored.
        threshold: largest allowed difference, times the larger of 1 and the reference's rms.
        diagnoser: asked at each faulty stage that the repairs so far do not explain; None only compares.
        stop_at_first: end after the first divergent stage.
        listener: hears how far the run has come.
    """

    def __init__(
        self,
        pair: ModelPair,
        threshold: float,
        diagnoser: Diagnoser | None = None,
        stop_at_first: bool = False,
        listener: Listener | None = None,
    ) -> None:
        self.stored, self.repaired = pair, None
        self.threshold, self.diagnoser, self.stop_at_first = threshold, diagnoser, stop_at_first
        self.listener = listener or Listener()
        self.result = LockstepResult()
        self._fault_seen = False

    repaired: ModelPair | None

    def run(self, tokens: list[int]) -> LockstepResult:
        """Run all stages of both sides over the tokens."""
        pair = self.stored
        pair.start(tokens)
        if self.diagnoser is not None:
            pair.weights.two_models = self.diagnoser.foresees_two_models(pair)
        layers = max(pair.reference.model.block_count, pair.subject.model.block_count)
        last = None
        for place, node in enumerate(pair.reference.graph):
            if place == 0:
                pair.expect(node)
            if node.layer != last:
                what, done = (
                    ("the head", layers) if node.layer is None else (f"layer {node.layer}", node.layer)
                )
                self.listener.working(what, done, layers)
                last = node.layer
                pair.expect(node)
            if node.name not in pair.subject.graph:
                self._skip(node, "reference")
                continue
            self._stage(node)
            if self.stop_at_first and self.result.faulty_over:
                self.result.stopped = True
                break
        if not self.result.stopped:
            for node in pair.subject.graph:
                absent = node.layer is not None and node.layer >= pair.subject.model.block_count
                if node.name not in pair.reference.graph and not absent:
                    self._skip(node, "subject")
            self.result.logits = _whole(
                pair.reference.values.get("logits"), pair.subject.values.get("logits")
            )
        return self.result

    def _stage(self, node: Node) -> None:
        outcome = self.stored.run(node.name)
        fixed = self._repaired_outcome(node, outcome)
        if self.diagnoser is not None and (rounded := self.diagnoser.rounded(self.stored)) is not None:
            self.stored = rounded
            outcome = rounded.run(node.name)
        self._tell(node.name, outcome.reference, outcome.subject)
        stage, over = self._judge(node, outcome)
        if outcome.explained is not None and outcome.local is not None:
            found = ExplainedStage(node.name, node.layer, outcome.explained, outcome.local)
            self.result.explained.append(found)
        if stage.status == "faulty":
            self._fault_seen = True
            if outcome.local is None or self._exceeds(outcome.local.max_diff, outcome.reference):
                self.result.faulty_over.append(node.name)
        self.result.stages.append(stage)
        if over:
            self.result.over_threshold.append(node.name)
        self.stored.advance(node.name, outcome)
        self.stored.forget()
        if self.repaired is not None and fixed is not None:
            if over and (fixed.absent or (fixed.comparable and not fixed.faulty and not self._over(fixed))):
                self.result.brought_back.append(node.name)
            self.repaired.advance(node.name, fixed)
            self.repaired.forget()

    def _tell(self, stage: str, reference: Value | None, subject: Value | None) -> None:
        values = self.stored.lanes.with_both(reference, subject).by_side()
        self.listener.computed(stage, values["left"], values["right"])

    def _repaired_outcome(self, node: Node, outcome: Outcome) -> Outcome | None:
        """What the stage gives with all repairs in place, a new one among them where its fault is explained; None
        while there are none."""
        pair, open_fault = self.stored, outcome
        if self.repaired is not None:
            pair = self.repaired
            open_fault = pair.run(node.name, Twin(self.stored, outcome))
        if self.diagnoser is not None and open_fault.faulty and not self.diagnoser.wrong_pair:
            layers = self.stored.reference.model.block_count
            self.listener.working(f"diagnosing {node.name}", node.layer or 0, layers)
            models = self.diagnoser.examine(node, pair, open_fault)
            if self.diagnoser.wrong_pair:  # neither is repaired by the other
                self.stored.weights.two_models, self.repaired = True, None
                return None
            if models is not None:
                self.repaired = pair.with_models(*models)
                return self.repaired.run(node.name, Twin(pair, open_fault))
        return None if self.repaired is None else open_fault

    def _limit(self, size: float) -> float:
        """The largest difference allowed of a stage whose reference has this root mean square."""
        return self.threshold * max(1.0, size)

    def _exceeds(self, gap: float, reference: Value | None) -> bool:
        if gap <= self._limit(0.0):
            return False
        return reference is None or gap > self._limit(rms(reference))

    def _over(self, outcome: Outcome) -> bool:
        if not outcome.comparable:
            return True
        assert outcome.reference is not None
        assert outcome.subject is not None
        subject = self.stored.reference.moved(outcome.subject)
        return self._exceeds(largest_gap(subject, outcome.reference), outcome.reference)

    def _judge(self, node: Node, outcome: Outcome) -> tuple[StageDiff, bool]:
        """The stage's row in the report, and whether it is over the threshold."""
        a, b = outcome.reference, outcome.subject
        metrics: Metrics | None = None
        if outcome.comparable and a is not None and b is not None:
            b = self.stored.reference.moved(b)
            left_is_subject = self.stored.reference_side == "right"
            metrics = difference(b, a, left_is_subject, token_axis=node.op.token_axis)
        over = metrics is None or metrics.max_diff > self._limit(metrics.size)
        status: Status = "ok"
        if outcome.unrecorded and not outcome.faulty:
            status, metrics, over = "skipped", None, False
        elif outcome.faulty:
            status = "faulty"
        elif over:
            status = "carried" if self._fault_seen else "drift"
        measures: dict[str, Any] = {}
        if metrics is not None and status != "ok" and a is not None and b is not None:
            measures = in_measures(self._seen(node, a, b, status == "faulty"))
        values = self.stored.lanes.with_both(a, b).by_side()
        counts = self.stored.lanes.with_both(*outcome.nonfinite).by_side()
        left, right = values["left"], values["right"]
        stage = StageDiff(
            name=node.name,
            layer=node.layer,
            op=node.stage,
            status=status,
            left_dims=None if left is None else list(left.shape),
            right_dims=None if right is None else list(right.shape),
            **in_figures(metrics),
            **measures,
            local=outcome.local,
            nonfinite=NonFinite(left=counts["left"], right=counts["right"]),
            detail=self._detail(node, outcome, left, right, metrics),
        )
        return stage, over

    def _seen(self, node: Node, a: Value, b: Value, faulty: bool) -> SeenStage:
        """What the measures of a stage that differs look at."""
        lanes, settings = self.stored.lanes, self.stored.reference.model.settings_of(node.layer)
        count = settings.get("attention.head_count")
        values = lanes.with_both(a, b).by_side()
        routers = lanes.each(lambda lane: lane.values.get(f"layers.{node.layer}.ffn_router")).by_side()
        left, right = routers["left"], routers["right"]
        return SeenStage(
            op=node.stage,
            left=values["left"],
            right=values["right"],
            faulty=faulty,
            heads=count if isinstance(count, int) else None,
            routing=(left, right) if isinstance(left, Tensor) and isinstance(right, Tensor) else None,
        )

    def _detail(
        self, node: Node, outcome: Outcome, left: Value | None, right: Value | None, metrics: Metrics | None
    ) -> StageDetail:
        lanes = self.stored.lanes
        models = lanes.each(lambda lane: lane.model).by_side()
        dims = []
        for name in node.tensors:
            left_weight, right_weight = (models[side].weights.get(name) for side in SIDES)
            if left_weight or right_weight:
                dims.append((name, _dims(left_weight), _dims(right_weight)))
        left_ends = None if left is None else ends(left)
        right_ends = left_ends if right is left else None if right is None else ends(right)
        return StageDetail(
            left_ends=left_ends,
            right_ends=right_ends,
            worst=metrics.spots if metrics else [],
            weight_dims=dims,
            differing=[
                (weight, pair.worst_ratio)
                for weight in outcome.differing
                if (pair := self.stored.weights.pair(weight)) is not None
            ],
            not_computable={lanes.side(role): str(reason) for role, reason in outcome.reasons.items()},
        )

    def _skip(self, node: Node, role: Role) -> None:
        """A stage that one architecture lacks: the side that has it goes on by itself."""
        pair = self.stored
        lane = pair.lanes.of_role(role)
        dims: list[int] | None = None
        if role == "reference" and lane.has_inputs(node):
            with suppress(NotComputable):  # what needs it will say so
                value = lane.computed(node, lane.values)
                lane.values[node.name], dims = value, list(value.shape)
                self._tell(node.name, value, None)
            lane.runtime.cache.clear()
        of_sides = pair.lanes.with_both(
            dims if role == "reference" else None, dims if role == "subject" else None
        ).by_side()
        self.result.stages.append(
            StageDiff(
                name=node.name,
                layer=node.layer,
                op=node.stage,
                status="skipped",
                left_dims=of_sides["left"],
                right_dims=of_sides["right"],
            )
        )


def _whole(a: Value | None, b: Value | None) -> tuple[Tensor | None, Tensor | None]:
    """Two values that are held whole."""
    assert not isinstance(a, InParts)
    assert not isinstance(b, InParts)
    return a, b


def _dims(weight: Weight | None) -> list[int] | None:
    return None if weight is None else list(weight.entry.dims)
