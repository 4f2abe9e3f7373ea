"""The lockstep run: both sides advance one stage at a time, each stage is judged as soon as it is there.

Nothing is kept but the current layer, so memory grows with the largest layer and not with the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from rosetta.compare.in_parts import Value
from rosetta.compare.listener import Listener
from rosetta.compare.metrics import Metrics, difference, ends, largest_gap, rms
from rosetta.compare.outcome import Outcome
from rosetta.compare.pair import ModelPair, Twin
from rosetta.compare.results import NonFinite, Side, StageDetail, StageDiff, Status
from rosetta.model import Model
from rosetta.transformer import Op, stage_name
from rosetta.weight import Weight

SIDES: tuple[Side, Side] = ("left", "right")


class Diagnoser(Protocol):
    """What the lockstep asks for the cause of a faulty stage."""

    def examine(
        self, layer: int | None, op: Op, subject_op: Op, pair: ModelPair, outcome: Outcome
    ) -> tuple[Model, Model] | None:
        """The (reference, subject) with the repairs that explain the fault in place; None where none does."""
        ...


@dataclass
class LockstepResult:
    """What a run found.

    Args:
        stages: one a stage, in order, `tokens` not among them.
        over_threshold: names of the stages over the threshold or not comparable.
        faulty_over: names of the faulty stages whose local error is over the threshold or not computable.
        brought_back: stages over the threshold as stored that the repairs bring back.
        logits: (reference's, subject's) logits of all positions, where computed.
        stopped: whether the run ended early, at the first divergent stage.
    """

    stages: list[StageDiff] = field(default_factory=list)
    over_threshold: list[str] = field(default_factory=list)
    faulty_over: list[str] = field(default_factory=list)
    brought_back: list[str] = field(default_factory=list)
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
        layers = max(pair.reference.model.block_count, pair.subject.model.block_count)
        ours = {
            op.name: op
            for op in (*pair.subject.plan.before, *pair.subject.plan.layer, *pair.subject.plan.after)
        }
        theirs = {
            op.name
            for op in (*pair.reference.plan.before, *pair.reference.plan.layer, *pair.reference.plan.after)
        }
        last = None
        for layer, op in pair.reference.plan.steps(layers):
            if layer != last:
                what, done = ("the head", layers) if layer is None else (f"layer {layer}", layer)
                self.listener.working(what, done, layers)
                last = layer
            if op.name not in ours:
                self._skip(layer, op, reference_has_it=True)
                continue
            self._stage(layer, op, ours[op.name])
            if self.stop_at_first and self.result.faulty_over:
                self.result.stopped = True
                break
        extra = [op for op in pair.subject.plan.layer if op.name not in theirs]
        for layer in range(0 if self.result.stopped else pair.subject.model.block_count):
            for op in extra:
                self._skip(layer, op, reference_has_it=False)
        if not self.result.stopped:
            self.result.logits = (pair.values.get("logits"), pair.subject_values.get("logits"))
        return self.result

    def _stage(self, layer: int | None, op: Op, subject_op: Op) -> None:
        name = stage_name(layer, op.name)
        outcome = self.stored.run(layer, op, subject_op)
        fixed = self._repaired_outcome(layer, op, subject_op, outcome)
        stage, over = self._judge(name, layer, op, outcome)
        if stage.status == "faulty":
            self._fault_seen = True
            if outcome.local is None or self._exceeds(outcome.local.max_diff, outcome.reference):
                self.result.faulty_over.append(name)
        self.result.stages.append(stage)
        if over:
            self.result.over_threshold.append(name)
        self.stored.advance(op, outcome)
        self.stored.forget()
        if self.repaired is not None and fixed is not None:
            if over and (fixed.absent or (fixed.comparable and not fixed.faulty and not self._over(fixed))):
                self.result.brought_back.append(name)
            self.repaired.advance(op, fixed)
            self.repaired.forget()

    def _repaired_outcome(
        self, layer: int | None, op: Op, subject_op: Op, outcome: Outcome
    ) -> Outcome | None:
        """What the stage gives with all repairs in place, a new one among them where its fault is explained; None
        while there are none."""
        pair, open_fault = self.stored, outcome
        if self.repaired is not None:
            pair = self.repaired
            open_fault = pair.run(layer, op, subject_op, Twin(self.stored, outcome))
        if self.diagnoser is not None and open_fault.faulty:
            name, layers = stage_name(layer, op.name), self.stored.reference.model.block_count
            self.listener.working(f"diagnosing {name}", layer or 0, layers)
            models = self.diagnoser.examine(layer, op, subject_op, pair, open_fault)
            if models is not None:
                self.repaired = pair.with_models(*models)
                return self.repaired.run(layer, op, subject_op, Twin(pair, open_fault))
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
        subject = outcome.subject.to(self.stored.reference.cache.device)
        return self._exceeds(largest_gap(subject, outcome.reference), outcome.reference)

    def _judge(self, name: str, layer: int | None, op: Op, outcome: Outcome) -> tuple[StageDiff, bool]:
        """The stage's row in the report, and whether it is over the threshold."""
        left_is_subject = self.stored.reference_side == "right"
        a, b = outcome.reference, outcome.subject
        metrics: Metrics | None = None
        if outcome.comparable and a is not None and b is not None:
            b = b.to(self.stored.reference.cache.device)
            metrics = difference(b, a, left_is_subject, token_axis=1 if op.by_head else 0)
        over = metrics is None or metrics.max_diff > self._limit(metrics.size)
        status: Status = "ok"
        if outcome.unrecorded:
            status, metrics, over = "skipped", None, False
        elif outcome.faulty:
            status = "faulty"
        elif over:
            status = "carried" if self._fault_seen else "drift"
        left, right = (b, a) if left_is_subject else (a, b)
        counts = outcome.nonfinite[::-1] if left_is_subject else outcome.nonfinite
        stage = StageDiff(
            name=name,
            layer=layer,
            op=op.name,
            status=status,
            left_dims=None if left is None else list(left.shape),
            right_dims=None if right is None else list(right.shape),
            max_diff=metrics.max_diff if metrics else None,
            mean_diff=metrics.mean_diff if metrics else None,
            rms_diff=metrics.rms_diff if metrics else None,
            rel_l2=metrics.rel_l2 if metrics else None,
            cosine=metrics.cosine if metrics else None,
            scale=metrics.scale if metrics else None,
            rel=metrics.rel if metrics else None,
            by_token=None if metrics is None else list(metrics.by_token),
            worst=metrics.worst if metrics else None,
            local=outcome.local,
            nonfinite=NonFinite(left=counts[0], right=counts[1]),
            detail=self._detail(layer, op, outcome, left, right, metrics),
        )
        return stage, over

    def _detail(
        self,
        layer: int | None,
        op: Op,
        outcome: Outcome,
        left: Value | None,
        right: Value | None,
        metrics: Metrics | None,
    ) -> StageDetail:
        subject_side: Side = "left" if self.stored.reference_side == "right" else "right"
        sides = {"reference": self.stored.reference_side, "subject": subject_side}
        models = {
            sides["reference"]: self.stored.reference.model,
            sides["subject"]: self.stored.subject.model,
        }
        prefix = "" if layer is None else f"blk.{layer}."
        dims = []
        for name in (*op.weights, *op.optional):
            left_weight, right_weight = (models[side].weights.get(prefix + name) for side in SIDES)
            if left_weight or right_weight:
                dims.append((prefix + name, _dims(left_weight), _dims(right_weight)))
        return StageDetail(
            left_ends=None if left is None else ends(left),
            right_ends=None if right is None else ends(right),
            worst=metrics.spots if metrics else [],
            weight_dims=dims,
            differing=[
                (weight, pair.worst_ratio)
                for weight in outcome.differing
                if (pair := self.stored.weight_pair(weight)) is not None
            ],
            not_computable={sides[role]: str(reason) for role, reason in outcome.reasons.items()},
        )

    def _skip(self, layer: int | None, op: Op, reference_has_it: bool) -> None:
        """A stage that one architecture lacks: the side that has it goes on by itself."""
        side = self.stored.reference if reference_has_it else self.stored.subject
        values = self.stored.values if reference_has_it else self.stored.subject_values
        dims: list[int] | None = None
        if reference_has_it and all(name in values for name in op.inputs):
            value = side.compute(layer, op, values)
            values[op.name], dims = value, list(value.shape)
            side.cache.clear()
        left_has_it = reference_has_it == (self.stored.reference_side == "left")
        self.result.stages.append(
            StageDiff(
                name=stage_name(layer, op.name),
                layer=layer,
                op=op.name,
                status="skipped",
                left_dims=dims if left_has_it else None,
                right_dims=None if left_has_it else dims,
            )
        )


def _dims(weight: Weight | None) -> list[int] | None:
    return None if weight is None else list(weight.entry.dims)
