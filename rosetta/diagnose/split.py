"""What two runtimes differ in, split: what their files differ in, and in what each runtime differs from its own file.

Two runs held to each other tell that a stage differs, and know of its rounding only how coarse the files are. Where
rosetta runs the architecture of both, it knows more: it recomputes each run from its own file, with the runtime's known
arithmetic, and one file from the other with the rounding of every weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rosetta.compare.lockstep import SIDES, LockstepResult
from rosetta.compare.options import Options, live
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, LocalError, Side, StageDiff
from rosetta.diagnose.comparison import Comparison, compare_operands
from rosetta.errors import RosettaError
from rosetta.runtimes.live import known_model, options_of


@dataclass(frozen=True)
class Split:
    """Comparisons of the same tokens.

    Args:
        parts: of the two files, a recording in the place of its own, and of each run that is made here with its file.
    """

    parts: tuple[Comparison, ...]

    def explained(self, stage: str) -> LocalError | None:
        """The largest of a stage's local errors, where all comparisons have it and none finds it faulty."""
        rows = [self._row(part, stage) for part in self.parts]
        local = [
            row.local for row in rows if row is not None and row.status != "faulty" and row.local is not None
        ]
        return max(local, key=lambda x: x.worst_ratio) if len(local) == len(self.parts) else None

    def _row(self, part: Comparison, stage: str) -> StageDiff | None:
        return next((row for row in part.stages if row.name == stage and row.max_diff is not None), None)

    def judged(self, result: LockstepResult) -> LockstepResult:
        """What was found of two runs held to each other, less the faults that are explained: not in a layer that has a
        fault which these two do not show, and which is seen in what is computed from it.
        """
        rows, seen, unseen = [], False, self._layers_of_unseen(result)
        for row in result.stages:
            told = row.status == "faulty" and row.layer not in unseen
            local = self.explained(row.name) if told else None
            if local is not None:
                over = row.name in result.over_threshold
                row = row.model_copy(update={"status": "drift" if over else "ok", "local": local})
            if row.status in ("drift", "carried"):
                row = row.model_copy(update={"status": "carried" if seen else "drift"})
            seen |= row.status == "faulty"
            rows.append(row)
        faulty = {row.name for row in rows if row.status == "faulty"}
        return replace(
            result, stages=rows, faulty_over=[name for name in result.faulty_over if name in faulty]
        )

    def _layers_of_unseen(self, result: LockstepResult) -> set[int | None]:
        """The layers of faults in the parts at stages that two runs held to each other do not both show."""
        shown = {row.name for row in result.stages if row.max_diff is not None}
        return {
            row.layer
            for part in self.parts
            for row in part.stages
            if row.status == "faulty" and row.name not in shown
        }

    @property
    def note(self) -> str:
        """What each comparison says."""
        return "; ".join(
            f"{part.operands['left']} with {part.operands['right']}: {part.verdict}" for part in self.parts
        )

    def findings(self) -> list[Finding]:
        """Those of all, each once."""
        found: list[Finding] = []
        told = set()
        for finding in (finding for part in self.parts for finding in part.findings):
            what = (finding.kind, finding.side, finding.tensor, finding.key, finding.layer)
            if what not in told:
                told.add(what)
                found.append(finding)
        return found


def split(operands: dict[Side, str], run: Sequence[int], options: Options) -> Split | None:
    """Compare the files of two runs, and each run with its file; a recording stands for its own file.

    Args:
        operands: of both sides, each with a runtime or recorded.
        run: the tokens that both were given.
        options: of the comparison of the two.

    Returns:
        None where rosetta does not run one of the models.
    """
    named = {side: found for side in SIDES if (found := live(operands[side])) is not None}
    models = [known_model(Path(path)) for _, path in named.values()]
    if not all(model is not None and model.architecture.runs for model in models):
        return None
    given = replace(options, tokens=tuple(run), runtime_options={}, witness=None)
    files = {side: named[side][1] if side in named else operand for side, operand in operands.items()}
    try:
        parts = [compare_operands(files["left"], files["right"], given)]
        for side, (runtime, path) in named.items():
            own = {side: operands[side], other_side(side): path}
            asked = replace(given, runtime_options=options_of(runtime, options.runtime_options))
            parts.append(compare_operands(own["left"], own["right"], asked))
    except RosettaError:  # what cannot be split stays whole
        return None
    return Split(tuple(parts))
