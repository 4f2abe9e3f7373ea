"""Two observed runs held to each other, with no model of ours between them: for architectures that we cannot compute.

Every stage that both have is compared as it is. The subject's runtime is run once more with the reference's value in
the place of each stage: what it then computes of a stage differs by its own share alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from rosetta.architectures import Architecture, find_architecture
from rosetta.compare.listener import Listener
from rosetta.compare.lockstep import LockstepResult
from rosetta.compare.logits import compare_logits
from rosetta.compare.options import Options
from rosetta.compare.pairing import Pairing, other_side
from rosetta.compare.prompt import Tokenized, tokens_diff
from rosetta.compare.results import Compared, Evidence, Finding, Side, StageDiff, WeightsDiff
from rosetta.compare.verdict import verdict
from rosetta.diagnose.comparison import Comparison
from rosetta.diagnose.crash import crash_findings
from rosetta.diagnose.drawn_weights import with_drawn_weights
from rosetta.diagnose.observed_sides import observed, rotations_of
from rosetta.diagnose.observed_stages import Judge
from rosetta.diagnose.split import Split, split
from rosetta.model import Model
from rosetta.runtimes.live import record
from rosetta.runtimes.observed.capture import sort_key
from rosetta.runtimes.observed.operations import INPUT
from rosetta.runtimes.rotation import Rotation
from rosetta.runtimes.trace import Recording


def compare_runs(operands: dict[Side, str], options: Options, listener: Listener) -> Comparison:
    """Compare two runs of runtimes of somebody else's.

    Raises:
        RosettaError: a runtime is not installed or does not run its model, or the options ask for the impossible.
    """
    started = time.perf_counter()
    listener.working("running both", 0, 0)
    sides = observed(operands, options)
    options = replace(options, reference=sides.reference_side)
    run = list(sides.reference.recording.tokens)
    ids = sides.each(lambda side: list(side.ids)).by_side()
    tokens = tokens_diff(ids["left"], ids["right"])
    recordings = sides.each(lambda side: _of_stages(side.recording))
    rotations = rotations_of(sides)
    loaded = time.perf_counter()
    request = sides.subject.request
    assert request is not None  # a recording is never the subject
    listener.working(f"running {request.runtime} with the other's values", 0, 0)
    alive = not any("failure" in run.facts for run in (recordings.reference, recordings.subject))
    local = None
    if alive:
        local, _ = record(request, overwrite=_Values(recordings.reference, rotations))
    tables = "llamacpp" in (sides.reference.facts.runtime, sides.subject.facts.runtime)
    roundings = sides.each(lambda side: side.roundings)
    judge = Judge(recordings, rotations, local, roundings, tables, options.threshold, listener)
    result = judge.result(sorted({*recordings.reference.stages, *recordings.subject.stages}, key=sort_key))
    divided = split(operands, run, options) if any(row.status == "faulty" for row in result.stages) else None
    if divided is not None:
        result = divided.judged(result)
    tokenized = Tokenized(tokens, run, {"left": None, "right": None}, [])
    compared = Compared(
        stages=sum(stage.max_diff is not None for stage in result.stages), tokens=len(tokens.left)
    )
    word, reason = verdict(tokens, result, compared, both_have_weights=False)
    models = recordings.each(_model).by_side()
    findings: list[Finding] = []
    if options.diagnose:
        findings = with_drawn_weights(_findings(result, recordings, divided), models)
    crashes = list(crash_findings(models))
    if crashes:
        word, reason, findings = "divergent", crashes[0].message, [*crashes, *findings]
    return Comparison(
        operands=operands,
        models=models,
        repaired=models,
        options=options,
        prompt=sides.reference.prompt,
        verdict=word,
        reason=reason,
        tokens=tokens,
        config=[],
        weights=WeightsDiff(),
        stages=result.stages,
        findings=findings,
        refuted=[],
        logits=compare_logits(result.logits, tokenized, options.reference),
        compared=compared,
        notes=[
            *(f"{x.path}: {note}" for x in (recordings.reference, recordings.subject) for note in x.notes),
            *([] if divided is None else [f"the difference is split: {divided.note}"]),
        ],
        load_s=loaded - started,
        diagnose_s=0.0,
        total_s=time.perf_counter() - started,
    )


def _of_stages(recording: Recording) -> Recording:
    """A run without what its own weights alone are multiplied with: two runtimes may have that in any order."""
    named = {name: entry for name, entry in recording.stages.items() if not name.endswith(INPUT)}
    return replace(recording, stages=named)


class _Values(Mapping[str, NDArray[Any]]):
    """The reference's stages in the subject's own order, each read when it is asked for.

    Args:
        reference: what is given.
        rotations: how q and k of both come into one order.
    """

    def __init__(self, reference: Recording, rotations: Pairing[Rotation]) -> None:
        self.reference, self.rotations = reference, rotations

    def __getitem__(self, stage: str) -> NDArray[Any]:
        value = self.reference.stage(stage)
        if value is None:
            raise KeyError(stage)
        value = self.rotations.subject.back(stage, self.rotations.reference.forth(stage, value))
        values: NDArray[Any] = value.numpy()
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.reference.stages)

    def __len__(self) -> int:
        return len(self.reference.stages)


def _model(recording: Recording) -> Model:
    """What a report says of a side that rosetta may not know: its name."""
    name = recording.architecture or "unknown"
    known = find_architecture(name)
    return Model(recording, known or Architecture(name, gguf=name, classes=()), {}, {})


def _findings(result: LockstepResult, runs: Pairing[Recording], divided: Split | None) -> list[Finding]:
    """The causes that files and runtimes have by themselves; where they have none, each stage that differs by more than
    its inputs and dtypes explain, in order."""
    found = [] if divided is None else divided.findings()
    if any(not finding.latent for finding in found):
        return found
    faulty = [stage.name for stage in result.stages if stage.status == "faulty"]
    if divided is not None:
        found += divided.of_files({name for name in faulty if len(divided.held(name)) > 1})
    told = {finding.evidence.stage for finding in found if finding.evidence is not None}
    told |= set() if divided is None else divided.proven()
    return found + [
        _unexplained(stage, stage.name in result.faulty_over, runs, divided)
        for stage in result.stages
        if stage.status == "faulty" and stage.name not in told
    ]


def _unexplained(stage: StageDiff, over: bool, runs: Pairing[Recording], divided: Split | None) -> Finding:
    """A stage that differs by more than is explained: the side is accused that is not known to compute it as its own
    file says; the subject, where that is both or none."""
    held = [] if divided is None else divided.held(stage.name)
    side, beyond = (
        runs.side("subject"),
        f"{stage.name} differs by more than its inputs and the dtypes explain",
    )
    advice = f"compare how both runtimes compute {stage.name}"
    if len(held) > 1:
        beyond = f"{stage.name} differs, and each runtime computes it as its own file says: the files differ"
        advice = f"compare the tensors that {stage.name} and the stages before it are made of"
    elif held == [side]:
        side = other_side(side)
    return Finding(
        kind="unexplained",
        side=side,
        layer=stage.layer,
        message=beyond,
        recommendation=advice,
        status="suspected",
        latent=not over,
        evidence=Evidence(
            stage=stage.name,
            before=stage.local.max_diff if stage.local else None,
            after=stage.local.max_diff if stage.local else None,
            predicted=stage.local.predicted_max_diff if stage.local else None,
        ),
    )
