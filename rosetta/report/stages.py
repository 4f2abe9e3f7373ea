"""One stage as lines of text: its weights, its numbers, and what its status means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.report.causes import Cause, diagnosis, explanation, proof, turned_weight
from rosetta.report.words import (
    SIDES,
    dims,
    number,
    of_size,
    prediction,
    ratio_over_noise,
    sided,
    stage_place,
    times,
    values,
)

if TYPE_CHECKING:
    from rosetta.compare.results import LocalError, Side, StageDiff, Verdict, Worst

INDENT = "     "
MARKS = {"ok": " ✓", "drift": " ~ drift", "carried": " → carried"}
COLUMNS = f"  {'stage':<13} {'dims':<12} {'max_diff':>8}  {'mean':>8}  {'of size':>7}  {'of noise':>8}"


@dataclass(frozen=True)
class StageWriter:
    """Writes stages in one way.

    Args:
        label: what each side is called.
        verdict: of the whole report: a fault within the threshold is no divergence.
        verbosity: 0, 1 (`-v`) or 2 (`-vv`).
        diagnosed: whether causes were looked for, so that a fault without one of its own has one before it.
    """

    label: dict[Side, str]
    verdict: Verdict
    verbosity: int
    diagnosed: bool

    def alone(self, stage: StageDiff, found: Sequence[Cause]) -> list[str]:
        """A stage that has a section to itself."""
        body = [self._dims(stage), *self._body(stage, found)]
        return [f"  {line}" for line in body] + self.causes(found, stage.name)

    def in_layer(self, stage: StageDiff, found: Sequence[Cause]) -> list[str]:
        """A stage among others: its name, then its lines."""
        body = self._body(stage, found)
        if self.verbosity > 0 and stage.left_dims != stage.right_dims:
            body.insert(0, self._dims(stage))
        first, *rest = body
        return [
            f"  {stage.op}  {first}",
            *(INDENT + line for line in rest),
            *self.causes(found, stage.name),
        ]

    def row(self, stage: StageDiff) -> list[str]:
        """A stage that is well, drifts or is carried, in columns (`COLUMNS`): one line where the sides are equal."""
        start = f"  {stage.op:<13} {dims(stage.right_dims or stage.left_dims):<12} "
        mark = MARKS.get(stage.status, "")
        if stage.status == "skipped":
            return [f"{start}skipped: one side has no such stage"]
        if stage.max_diff is None or stage.mean_diff is None:
            return [f"{start}not comparable{mark}", *self._nonfinite(stage)]
        if stage.max_diff == 0 and self.verbosity < 2:
            ends = stage.detail.left_ends
            return [f"{start}{'identical':>8}{'' if ends is None else '  ' + _ends(ends)}{mark}"]
        noise = "" if stage.local is None else f"{stage.local.worst_ratio:.2f}"
        numbers = f"{number(stage.max_diff)}  {number(stage.mean_diff)}  {times(stage.rel):>7}  {noise:>8}"
        return [f"{start}{numbers}{mark}", *(INDENT + line for line in self._details(stage))]

    def causes(self, found: Sequence[Cause], stage: str) -> list[str]:
        """Diagnosis and proof of each cause, in full where it is first found."""
        lines = []
        for cause in found:
            if cause.stage is not None and cause.stage != stage:
                lines.append(f"  DIAGNOSIS: as at {stage_place(cause.stage)}")
                continue
            lines.append(f"  DIAGNOSIS: {diagnosis(cause, self.label)}")
            if (proven := proof(cause)) is not None:
                lines.append(f"{INDENT}proof: {proven}")
            if (more := explanation(cause)) is not None:
                lines.append(INDENT + more)
        return lines

    def _dims(self, stage: StageDiff) -> str:
        mark = "✓" if stage.left_dims == stage.right_dims else "✗ DIVERGENCE!"
        left, right = dims(stage.left_dims), dims(stage.right_dims)
        return f"{self.label['left']} dims: {left}, {self.label['right']} dims: {right} {mark}"

    def _body(self, stage: StageDiff, found: Sequence[Cause]) -> list[str]:
        if stage.status == "skipped":
            return ["skipped: one side has no such stage"]
        lines, mark = [], self._mark(stage)
        turned = turned_weight(stage, found)
        if turned is not None:
            side, tensor = turned
            lines.extend(self._weights(stage, tensor))
            axes = {key: "[in, out]" if key == side else "[out, in]" for key in SIDES}
            said = " ".join(f"{self.label[key]}={axes[key]}" for key in SIDES)
            stored = " (cannot be computed as stored)" if stage.max_diff is None else ""
            lines.append(f"LAYOUT MISMATCH: {said} ✗ DIVERGENCE!{stored}")
            mark = ""
        elif self.verbosity > 0:
            lines.extend(self._weights(stage, None))
        for side, why in stage.detail.not_computable.items():
            if turned is None or self.verbosity > 0:
                lines.append(f"{self.label[side]} cannot compute it: {why}{mark}")
                mark = ""
        lines.extend([*self._numbers(stage, mark), *self._witness(stage)])
        return lines + (self._details(stage) if self.verbosity > 0 else [])

    def _numbers(self, stage: StageDiff, mark: str) -> list[str]:
        if stage.max_diff is None or stage.mean_diff is None:
            return ([f"not comparable{mark}"] if mark else []) + self._nonfinite(stage)
        size = f" ({of_size(stage.rel)})" if stage.max_diff and stage.rel is not None else ""
        lines = [f"max_diff={number(stage.max_diff)}{size}, mean_diff={number(stage.mean_diff)}{mark}"]
        local = stage.local
        if local is not None and stage.status in ("drift", "carried"):
            lines[0] += f" (local {ratio_over_noise(local.worst_ratio)})"
        elif stage.status == "faulty":
            lines += self._decided(stage, local)
        if stage.worst is not None and stage.status == "faulty":
            lines.append(f"worst at {self._at(stage.worst)}")
        return lines + self._nonfinite(stage)

    def _witness(self, stage: StageDiff) -> list[str]:
        """With which side a witness agrees at a stage at fault."""
        return (
            [] if stage.witness is None else [f"the witness agrees with {sided(stage.witness, self.label)}"]
        )

    def _decided(self, stage: StageDiff, local: LocalError | None) -> list[str]:
        """The figures that make a stage faulty, those below their prediction left out."""
        lines = []
        if local is not None and local.worst_ratio > 1:
            pairs = (
                ("max_diff", local.max_diff, local.predicted_max_diff),
                ("rel_l2", local.rel_l2, local.predicted_rel_l2),
            )
            beyond = [
                f"{name}={number(value)} (predicted {prediction(limit)})"
                for name, value, limit in pairs
                if value > limit
            ]
            figure = ratio_over_noise(local.worst_ratio)
            lines.append(
                f"local {', '.join(beyond)}: {figure}" if beyond else f"local error of an element {figure}"
            )
        for name, ratio in stage.detail.differing:
            lines.append(f"{name}: a block differs by {_times_explained(ratio)}")
        return lines

    def _nonfinite(self, stage: StageDiff) -> list[str]:
        counts = {"left": stage.nonfinite.left, "right": stage.nonfinite.right}
        if not any(counts.values()):
            return []
        return ["NaN or Inf: " + ", ".join(f"{self.label[side]} {counts[side]}" for side in SIDES)]

    def _details(self, stage: StageDiff) -> list[str]:
        """The values at both ends of both sides; with `-vv` all numbers, and the worst positions."""
        lines, detail = [], stage.detail
        ends = {"left": detail.left_ends, "right": detail.right_ends}
        said = [f"{self.label[side]} {_ends(both)}" for side in SIDES if (both := ends[side]) is not None]
        lines += [" | ".join(said)] if said else []
        if self.verbosity < 2:
            return lines
        cosine = "" if stage.cosine is None else f", cosine={stage.cosine:.9f}"
        if stage.rms_diff is not None:
            lines.append(f"rms_diff={number(stage.rms_diff)}, rel_l2={number(stage.rel_l2)}{cosine}")
        if (local := stage.local) is not None:
            lines.append(
                f"local max_diff={number(local.max_diff)} (predicted {prediction(local.predicted_max_diff)})"
                f", rel_l2={number(local.rel_l2)} (predicted {prediction(local.predicted_rel_l2)})"
            )
        if stage.by_token is not None:
            lines.append("by token: " + " ".join(number(value) for value in stage.by_token))
        for worst, left, right in detail.worst:
            lines.append(f"at {self._at(worst)}")
            lines.append(
                f"  around it {self.label['left']} {values(left)}, {self.label['right']} {values(right)}"
            )
        return lines

    def _weights(self, stage: StageDiff, tensor: str | None) -> list[str]:
        """Dims that each file stores, of one weight or of all that the stage uses."""
        lines = []
        for name, left, right in stage.detail.weight_dims:
            if tensor in (None, name):
                what = name.rsplit(".", 1)[-1]
                lines.append(
                    f"{self.label['left']} {what}: {dims(left)}, {self.label['right']} {what}: {dims(right)}"
                )
        return lines

    def _mark(self, stage: StageDiff) -> str:
        if stage.status == "faulty":
            within = self.verdict != "divergent"
            return (
                " ✗ FAULT (beyond the predicted noise, within the threshold)" if within else " ✗ DIVERGENCE!"
            )
        return MARKS.get(stage.status, "")

    def _at(self, worst: Worst) -> str:
        sides = {"left": worst.left, "right": worst.right}
        return f"{worst.index}: " + ", ".join(f"{self.label[side]} {sides[side]:.6g}" for side in SIDES)


def _times_explained(ratio: float) -> str:
    """How far a block lies from what its dtypes explain."""
    if ratio == float("inf"):
        return "what its dtypes leave no room for"
    return f"{ratio:.3g} times what its dtypes explain" if ratio > 1 else "more than its dtypes explain"


def _ends(both: tuple[Sequence[float], Sequence[float]]) -> str:
    """The first two values of a stage and the last one."""
    first, last = both
    return f"{', '.join(f'{value:.4g}' for value in first[:2])} … {last[-1]:.4g}"
