"""What two runtimes differ in, split: what their files differ in, and in what each runtime differs from its own file.

Two runs held to each other tell that a stage differs, and know of its rounding only how coarse the files are. Where
rosetta runs the architecture of both, it knows more: it recomputes each run from its own file, with the runtime's known
arithmetic, and one file from the other with the rounding of every weight. Of an architecture that it does not run, it
recomputes what each run makes of its own file's weights alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rosetta.compare.lockstep import SIDES, LockstepResult
from rosetta.compare.options import TRACE, Options, live
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, LocalError, Side, StageDiff
from rosetta.diagnose.comparison import Comparison, compare_operands
from rosetta.errors import RosettaError
from rosetta.runtimes.live import options_of, read_model


@dataclass(frozen=True)
class Split:
    """Comparisons of the same tokens.

    Args:
        parts: of the two files, a recording in the place of its own, and of each run that is made here with its file.
        runs: the sides of these runs, in their order.
        crossed: where rosetta does not run the architecture: one side's file held to the other's run.
    """

    parts: tuple[Comparison, ...]
    runs: tuple[Side, ...]
    crossed: Comparison | None = None

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

    def held(self, stage: str) -> list[Side]:
        """The sides whose run computes a stage as the weights of its own file say."""
        rows = ((side, self._row(part, stage)) for side, part in zip(self.runs, self.parts[1:], strict=True))
        return [side for side, row in rows if row is not None and row.status != "faulty"]

    def of_files(self, stages: Collection[str]) -> list[Finding]:
        """What is confirmed of the files at stages that each run computes as its own file says."""
        found = [] if self.crossed is None else self.crossed.findings
        return [
            finding
            for finding in found
            if finding.status == "confirmed" and finding.evidence and finding.evidence.stage in stages
        ]

    def proven(self) -> set[str]:
        """The stages at fault in a comparison of which every cause is proven: each of them follows from these."""
        return {
            row.name
            for part in self.parts
            if part.findings and all(finding.status == "confirmed" for finding in part.findings)
            for row in part.stages
            if row.status == "faulty"
        }

    @property
    def note(self) -> str:
        """What each comparison says."""
        return "; ".join(
            f"{part.operands['left']} with {part.operands['right']}: {part.verdict}" for part in self.parts
        )

    def findings(self) -> list[Finding]:
        """Those of all, each once; of an architecture that is not run two files' names need not meet, and what does not
        show in the run is no finding."""
        found: list[Finding] = []
        told = set()
        files, *runs = self.parts
        whole = all(model.architecture.runs for model in files.models.values())
        of_files = [finding for finding in files.findings if whole or not finding.latent]
        for finding in (*of_files, *(finding for part in runs for finding in part.findings)):
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
        None where rosetta does not read one of the models.
    """
    named = {side: found for side in SIDES if (found := live(operands[side])) is not None}
    models = [read_model(Path(path)) for _, path in named.values()]
    if None in models:
        return None
    known = all(model is not None and model.architecture.runs for model in models)
    given = replace(options, tokens=tuple(run), runtime_options={}, witness=None)
    files = {side: named[side][1] if side in named else operand for side, operand in operands.items()}
    try:
        parts = [compare_operands(files["left"], files["right"], given)]
        for side, (runtime, path) in named.items():
            own = {side: operands[side], other_side(side): path}
            asked = replace(given, runtime_options=options_of(runtime, options.runtime_options))
            parts.append(compare_operands(own["left"], own["right"], asked))
        crossed = None if known else _crossed(operands, files, given, options)
    except RosettaError:  # what cannot be split stays whole
        return None
    return Split(tuple(parts), tuple(named), crossed)


def _crossed(
    operands: dict[Side, str], files: dict[Side, str], given: Options, options: Options
) -> Comparison | None:
    """The file of the side that is not believed, held to the other side's run; None where it has no file of its own."""
    subject = other_side(options.reference)
    pair = {**operands, subject: files[subject]}
    if files[subject].startswith(TRACE):
        return None
    asked = replace(given, runtime_options=options.runtime_options)
    return compare_operands(pair["left"], pair["right"], asked)
