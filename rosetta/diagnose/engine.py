"""The engine: at each faulty stage it tries what the hypotheses propose, and believes only what a rerun proves."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rosetta.compare.pair import ModelPair, Outcome
from rosetta.compare.results import Evidence, Finding, Refuted
from rosetta.diagnose.hypotheses import all_hypotheses
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.model import Model
from rosetta.transformer import Op

# Of the repairs that confirm, the one that takes least from the reference wins.
ORDER = (
    "config.",
    "dtype.",
    "layout.",
    "value.swapped",
    "value.offset",
    "value.scaled",
    "value.zeroed",
    "value.nonfinite",
    "value.missing",
    "value.corrupted",
)


@dataclass(frozen=True)
class Trial:
    """A proposal and what the stage gave with its repair in place."""

    proposal: Proposal
    pair: ModelPair
    outcome: Outcome

    @property
    def confirmed(self) -> bool:
        """Whether the repair brings the stage's local error back to its predicted noise."""
        return self.outcome.comparable and not self.outcome.faulty


class Engine:
    """Collects the findings of one run; see `Diagnoser`."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.refuted: list[Refuted] = []
        self.seconds = 0.0
        self._unexplained: set[tuple[str, str | None]] = set()

    def examine(
        self, layer: int | None, op: Op, subject_op: Op, pair: ModelPair, outcome: Outcome
    ) -> tuple[Model, Model] | None:
        """Look for the cause of a faulty stage; the repaired models where one is proven."""
        started = time.perf_counter()
        fault = Fault(layer, op, pair, outcome)
        proposals = [proposal for propose in all_hypotheses() for proposal in propose(fault)]
        proposals.sort(key=lambda proposal: _rank(proposal.kind))
        winner: Trial | None = None
        ties: list[str] = []
        for proposal in proposals:
            if winner is not None and _rank(proposal.kind) > _rank(winner.proposal.kind):
                break
            trial = self._try(fault, proposal, subject_op)
            if not trial.confirmed:
                self.refuted.append(_refuted(fault, trial))
            elif winner is None:
                winner = trial
            elif proposal.kind != winner.proposal.kind:
                ties.append(proposal.kind)
        if winner is None:
            self._leave_unexplained(fault)
        else:
            self.findings.append(_finding(fault, winner, ties))
        self.seconds += time.perf_counter() - started
        if winner is None:
            return None
        return winner.pair.reference.model, winner.pair.subject.model

    def _try(self, fault: Fault, proposal: Proposal, subject_op: Op) -> Trial:
        models = {"reference": fault.pair.reference.model, "subject": fault.pair.subject.model}
        models[proposal.role] = proposal.repair.applied(models[proposal.role])
        pair = fault.pair.with_models(models["reference"], models["subject"])
        return Trial(proposal, pair, pair.run(fault.layer, fault.op, subject_op))

    def _leave_unexplained(self, fault: Fault) -> None:
        """Say where a fault is of which no cause was proven; once for a setting that all layers share."""
        differing = fault.outcome.differing
        keys = [
            key
            for key in fault.op.keys
            if key in fault.subject.model.config and fault.subject.model[key] != fault.subject.other.config[key].value
        ]
        reasons = [str(reason) for reason in fault.outcome.reasons.values()]
        tensor = next(
            (*differing, *(r.tensor for r in fault.outcome.reasons.values() if r.tensor)), None
        ) if not keys or differing else None
        key = None if tensor else (keys[0] if keys else None)
        mark = (fault.op.name if key else fault.stage, tensor or key)
        if mark in self._unexplained:
            return
        self._unexplained.add(mark)
        what = tensor or key or fault.stage
        self.findings.append(
            Finding(
                kind="unexplained",
                side=fault.side("subject" if "reference" not in fault.outcome.reasons else "reference"),
                layer=fault.layer,
                tensor=tensor,
                key=key,
                **_own_names(fault, tensor),
                message=f"{what}: " + (reasons[0] if reasons else "no hypothesis explains the difference of this stage"),
                recommendation=f"compare how both files were written at {what}",
                status="suspected",
                evidence=Evidence(stage=fault.stage, before=_local(fault.outcome), after=None),
            )
        )


def _rank(kind: str) -> int:
    return next((rank for rank, prefix in enumerate(ORDER) if kind.startswith(prefix)), len(ORDER))


def _local(outcome: Outcome) -> float | None:
    return None if outcome.local is None else outcome.local.max_diff


def _own_names(fault: Fault, tensor: str | None) -> dict[str, str | None]:
    """What each file calls the tensor."""
    if tensor is None:
        return {}
    models = {fault.side(s.role): s.model for s in (fault.subject, fault.reference)}
    weights = {side: model.weights.get(tensor) for side, model in models.items()}
    return {f"{side}_name": weight.entry.name if weight else None for side, weight in weights.items()}


def _finding(fault: Fault, trial: Trial, ties: list[str]) -> Finding:
    proposal, local = trial.proposal, trial.outcome.local
    assert local is not None
    return Finding(
        kind=proposal.kind,
        side=fault.side(proposal.role),
        layer=fault.layer if proposal.tensor else None,
        tensor=proposal.tensor,
        key=proposal.key,
        alternatives=sorted(set(ties)),
        **_own_names(fault, proposal.tensor),
        declared=proposal.declared,
        actual=proposal.actual,
        message=proposal.message,
        recommendation=proposal.recommendation,
        status="confirmed",
        evidence=Evidence(
            stage=fault.stage,
            before=_local(fault.outcome),
            after=local.max_diff,
            predicted=local.predicted_max_diff,
        ),
    )


def _refuted(fault: Fault, trial: Trial) -> Refuted:
    return Refuted(
        kind=trial.proposal.kind,
        tensor=trial.proposal.tensor,
        key=trial.proposal.key,
        stage=fault.stage,
        before=_local(fault.outcome),
        after=_local(trial.outcome),
    )
