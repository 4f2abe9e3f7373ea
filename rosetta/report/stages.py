"""One stage as lines of text: its weights, its numbers, and what its status means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.report.causes import Cause, diagnosis, explanation, proof, turned_weight
from rosetta.report.words import SIDES, dims, number, prediction, stage_place, values

if TYPE_CHECKING:
    from rosetta.compare.results import Side, StageDiff, Verdict, Worst

INDENT = "     "


@dataclass(frozen=True)
class StageWriter:
    """Writes stages in one way.

    Args:
        label: what each side is called.
        verdict: of the whole report: a fault within the threshold is no divergence.
        verbosity: 0, 1 (`-v`) or 2 (`-vv`).
    """

    label: dict[Side, str]
    verdict: Verdict
    verbosity: int

    def alone(self, stage: StageDiff, found: Sequence[Cause]) -> list[str]:
        """A stage that has a section to itself."""
        body = [self._dims(stage), *self._body(stage, found)]
        return [f"  {line}" for line in body] + self.causes(found, stage.name)

    def in_layer(self, stage: StageDiff, found: Sequence[Cause], note: str = "") -> list[str]:
        """A stage among others: its name, then its lines; the first of them gets the note."""
        body = self._body(stage, found)
        if self.verbosity > 0:
            body.insert(0, self._dims(stage))
        first, *rest = body
        return [
            f"  {stage.op}  {first}{note}",
            *(INDENT + line for line in rest),
            *self.causes(found, stage.name),
        ]

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
            if cause.first.latent:
                lines.append(f"{INDENT}latent: it changes nothing that counts on this prompt")
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
        lines.extend(self._numbers(stage, mark))
        return lines + (self._details(stage) if self.verbosity > 0 else [])

    def _numbers(self, stage: StageDiff, mark: str) -> list[str]:
        if stage.max_diff is None or stage.mean_diff is None:
            return [f"not comparable{mark}"] if mark else []
        parts = [f"max_diff={number(stage.max_diff)}", f"mean_diff={number(stage.mean_diff)}"]
        if self.verbosity > 0:
            parts += [f"rms_diff={number(stage.rms_diff)}", f"rel_l2={number(stage.rel_l2)}"]
            parts += [] if stage.cosine is None else [f"cosine={stage.cosine:.9f}"]
        lines, local = [", ".join(parts) + mark], stage.local
        if local is not None and self.verbosity == 0 and stage.status == "drift":
            lines[0] += f" (local {number(local.max_diff)}, predicted {prediction(local.predicted_max_diff)})"
        elif local is not None and (self.verbosity > 0 or stage.status == "faulty"):
            lines.append(
                f"local max_diff={number(local.max_diff)} (predicted {prediction(local.predicted_max_diff)})"
                f", rel_l2={number(local.rel_l2)} (predicted {prediction(local.predicted_rel_l2)})"
            )
        if stage.worst is not None and (self.verbosity > 0 or stage.status == "faulty"):
            lines.append(f"worst at {self._at(stage.worst)}")
        if stage.nonfinite.left or stage.nonfinite.right:
            counts = {"left": stage.nonfinite.left, "right": stage.nonfinite.right}
            lines.append("NaN or Inf: " + ", ".join(f"{self.label[side]} {counts[side]}" for side in SIDES))
        return lines

    def _details(self, stage: StageDiff) -> list[str]:
        lines, detail = [], stage.detail
        ends = {"left": detail.left_ends, "right": detail.right_ends}
        for side in SIDES:
            if (both := ends[side]) is not None:
                lines.append(f"{self.label[side]} first {values(both[0])} last {values(both[1])}")
        if stage.by_token is not None:
            lines.append("by token: " + " ".join(number(value) for value in stage.by_token))
        if self.verbosity > 1:
            for worst, left, right in detail.worst:
                lines.append(f"at {self._at(worst)}")
                lines.append(f"  around it {self.label['left']} {values(left)}")
                lines.append(f"            {self.label['right']} {values(right)}")
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
        return {"ok": " ✓", "drift": " ~ drift", "carried": " → carried"}.get(stage.status, "")

    def _at(self, worst: Worst) -> str:
        sides = {"left": worst.left, "right": worst.right}
        return f"{worst.index}: " + ", ".join(f"{self.label[side]} {sides[side]:.6g}" for side in SIDES)
