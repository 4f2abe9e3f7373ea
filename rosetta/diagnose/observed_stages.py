"""The stages of two observed runs compared as they are, each with the share of the difference that is its own.

Letters: T = tokens, R = rows of a matrix.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from rosetta.compare.listener import Listener
from rosetta.compare.lockstep import LockstepResult
from rosetta.compare.metrics import count_nonfinite, difference, ends, in_figures, rms
from rosetta.compare.pairing import Pairing
from rosetta.compare.results import LocalError, NonFinite, StageDetail, StageDiff, Status
from rosetta.compare.stage_measures import SeenStage, in_measures
from rosetta.compare.trait import DEVIATIONS, largest_shrinkage
from rosetta.runtimes.observed.capture import layer_of
from rosetta.runtimes.observed.experts_order import OF_EXPERTS, by_expert, chosen_experts, expert_weights
from rosetta.runtimes.rotation import Rotation
from rosetta.runtimes.trace import Recording

FLOOR = 1e-6  # rel_l2 of one float32 stage of two runtimes; 3.2e-7 was the most in sixteen architectures
TABLE = 1e-3  # of an activation that is read from a table of half precision (ggml-cpu, GELU)
PEAK = 20.0  # the largest of a stage's differences over their root mean square
CERTAIN = 2.0  # beyond so many times the prediction lies a fault
SEEN = 1e-3  # a smaller factor than that may be of the arithmetic; of a table of halves it is half as much
WITHOUT_WEIGHTS = frozenset({"q_rope", "k_rope", "attn_scores", "attn_residual", "residual"})


@dataclass(frozen=True)
class Judge:
    """Compares stages of a reference and a subject.

    Args:
        runs: both recordings.
        rotations: how q and k of each come into one order.
        local: the subject's run with the reference's values in the place of every stage; None where a runtime died.
        roundings: relative, of each file's weights by their dtypes.
        tables: whether a side reads activations from tables.
        threshold: largest allowed difference, times the larger of 1 and the reference's rms.
        listener: hears the stages.
    """

    runs: Pairing[Recording]
    rotations: Pairing[Rotation]
    local: Recording | None
    roundings: Pairing[Mapping[str, float]]
    tables: bool
    threshold: float
    listener: Listener = field(default_factory=Listener)

    def result(self, stages: Sequence[str]) -> LockstepResult:
        """All stages, in order; one that a side lacks is skipped."""
        found, seen = LockstepResult(), False
        missing = Counter[
            int | None
        ]()  # stages of a layer that the reference does not have, between those that it has
        for name in stages:
            a = values_of(self.runs.reference, name, self.rotations.reference)
            b = values_of(self.runs.subject, name, self.rotations.subject)
            missing[layer_of(name)] += a is None
            both = self.runs.with_both(a, b).by_side()
            self.listener.computed(name, both["left"], both["right"])
            if a is None or b is None:
                found.stages.append(self._row(name, "skipped", a, b, None))
                continue
            local = self._local(name, a, 1 + missing[layer_of(name)])
            over = self._over(a, b)
            faulty = a.shape != b.shape or (local is not None and local.worst_ratio > 1)
            faulty |= bool(count_nonfinite(a)) != bool(count_nonfinite(b))
            status: Status = "ok"
            if faulty:
                status = "faulty"
            elif over:
                status = "carried" if seen else "drift"
            if over:
                found.over_threshold.append(name)
            if faulty and (local is None or local.max_diff > self.threshold * max(1.0, rms(a))):
                found.faulty_over.append(name)
            seen |= faulty
            found.stages.append(self._row(name, status, a, b, local))
        found.logits = (self.runs.reference.stage("logits"), self.runs.subject.stage("logits"))
        return found

    def _over(self, a: Tensor, b: Tensor) -> bool:
        if a.shape != b.shape or count_nonfinite(a) or count_nonfinite(b):
            return True
        return float((a - b).abs().max()) > self.threshold * max(1.0, rms(a))

    def _local(self, name: str, a: Tensor, steps: int) -> LocalError | None:
        """The subject's stage from the reference's inputs, against the reference's own.

        Args:
            name, a: the stage, and the reference's value.
            steps: how many stages may lie between it and what the reference has before it.
        """
        value = None if self.local is None else values_of(self.local, name, self.rotations.subject)
        if value is None or value.shape != a.shape or count_nonfinite(a) or count_nonfinite(value):
            return None
        size, gap = rms(a), value - a
        predicted = steps * self._predicted(name, of_experts=a.ndim == 3)
        largest = float(gap.abs().max())
        relative = rms(gap) / size if size else (math.inf if largest else 0.0)
        worst = max(relative / predicted, largest / (PEAK * predicted * size) if size else 0.0) / CERTAIN
        linear = not name.endswith(".attn_scores")
        return LocalError(
            max_diff=largest,
            rel_l2=relative,
            predicted_max_diff=PEAK * predicted * size,
            predicted_rel_l2=predicted,
            worst_ratio=max(worst, self._of_factor(a, gap)) if linear and size else worst,
        )

    def _of_factor(self, a: Tensor, gap: Tensor) -> float:
        """How far a stage is the reference's times a number, over what rounding makes of it: errors of weights are
        independent from one row of a matrix to the next, and what an encoder makes them smaller by is bounded.

        Args:
            a: the reference's value, [T, …].
            gap: the subject's difference from it.
        """
        x, y = a.double().flatten(1), gap.double().flatten(1)  # [T, R]
        sizes, products = x.square().sum(0), (x * y).sum(0)
        total = float(sizes.sum())
        slope = float(products.sum()) / total
        error = float((products - slope * sizes).norm()) / total
        left = float((y - slope * x).square().sum()) / total
        return abs(slope) / max(SEEN, DEVIATIONS * error + self._shrinkage(left))

    def _shrinkage(self, left: float) -> float:
        """By how much the encoders of both files may have made weights smaller.

        Args:
            left: squares of what is seen of their rounding at a stage, over those of its values.
        """
        return max(
            (
                largest_shrinkage(dtype) * min(rounding**2, left)
                for side in (self.roundings.reference, self.roundings.subject)
                for dtype, rounding in side.items()
            ),
            default=0.0,
        )

    @cached_property
    def _rounding(self) -> float:
        """Relative, of the weights of both files together."""
        sides = (self.roundings.reference, self.roundings.subject)
        return math.hypot(*(max(side.values(), default=0.0) for side in sides))

    def _predicted(self, name: str, of_experts: bool) -> float:
        """The relative difference that the dtypes and the arithmetic explain; what is inside a block of experts, which
        is one operation to transformers, is made of its own products, not of the reference's."""
        prefix, _, op = name.rpartition(".")
        if name == "embedding" or op not in WITHOUT_WEIGHTS or self._are_of_latent_keys(prefix, op):
            table = TABLE if self.tables and op == "ffn_act" else 0.0
            if op == "ffn_act" and not of_experts:
                return math.hypot(FLOOR, table)
            return math.hypot(FLOOR, table, self._rounding)
        return FLOOR

    def _are_of_latent_keys(self, prefix: str, op: str) -> bool:
        """Whether scores are a product of weights as well: of latent keys, where a runtime shows no others."""
        runs = (self.runs.reference, self.runs.subject)
        keys = (f"{prefix}.k", f"{prefix}.k_rope")
        return op == "attn_scores" and not all(any(key in run.stages for key in keys) for run in runs)

    def _row(
        self, name: str, status: Status, a: Tensor | None, b: Tensor | None, local: LocalError | None
    ) -> StageDiff:
        values = self.runs.with_both(a, b).by_side()
        left, right = values["left"], values["right"]
        same = a is not None and b is not None and a.shape == b.shape
        bad = [0 if x is None else count_nonfinite(x) for x in (left, right)]
        metrics, measures = None, {}
        if same and not any(bad):
            assert a is not None
            assert b is not None
            if status != "ok":
                assert left is not None
                assert right is not None
                measures = in_measures(SeenStage(name.split(".", 2)[-1], left, right, status == "faulty"))
            axis = 1 if name.endswith(".attn_scores") else 0
            metrics = difference(b, a, self.runs.reference_side == "right", token_axis=axis)
        return StageDiff(
            name=name,
            layer=layer_of(name),
            op=name.split(".", 2)[-1],
            status=status,
            left_dims=None if left is None else list(left.shape),
            right_dims=None if right is None else list(right.shape),
            **in_figures(metrics),
            **measures,
            local=local,
            nonfinite=NonFinite(left=bad[0], right=bad[1]),
            detail=StageDetail(
                left_ends=None if left is None else ends(left),
                right_ends=None if right is None else ends(right),
                worst=metrics.spots if metrics else [],
            ),
        )


def values_of(run: Recording, name: str, rotation: Rotation) -> Tensor | None:
    """A stage with what a runtime may freely choose chosen alike: rotary rows, the order of the chosen experts."""
    value = run.stage(name)
    value = None if value is None else rotation.forth(name, value)
    prefix, _, op = name.rpartition(".")
    if value is None or op not in (*OF_EXPERTS, "ffn_router"):
        return value
    routing = run.stage(f"{prefix}.ffn_router")
    if routing is None:
        return value
    if routing.ndim == 2:  # a recorded run of ours: the weight of each expert
        routing = chosen_experts(routing, value.shape[1] if op in OF_EXPERTS and value.ndim == 3 else None)
    if op == "ffn_router":
        return expert_weights(routing, MOST_EXPERTS)
    return by_expert(value, routing) if value.ndim == 3 else value


MOST_EXPERTS = 1024  # llama.cpp, LLAMA_MAX_EXPERTS
