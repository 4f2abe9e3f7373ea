"""The engine: at each faulty stage it tries what the hypotheses propose, and believes only what a rerun proves."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rosetta.compare.outcome import Outcome
from rosetta.compare.pair import ModelPair
from rosetta.compare.results import Evidence, Finding, Refuted
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.other_recording import of_other_weights
from rosetta.diagnose.runtime_at_fault import of_observed_side, runs_otherwise
from rosetta.diagnose.search import Search, Trial, local_of
from rosetta.diagnose.suspicion import suspicion
from rosetta.diagnose.trained_part import (
    Related,
    are_many,
    related_weights,
    taken_from_reference,
    trained_part,
)
from rosetta.diagnose.wrong_pair import CAUSELESS, Likeness, likeness, strangers_at_sight, two_models
from rosetta.graph import Node
from rosetta.model import Model

REAL_DROP = 0.9  # of the figure that decided: what falls by less has crossed a limit, and proves nothing
LAYERS_IN_VAIN = 4  # what an observed run does otherwise and nothing explains, it does in every layer
TAKEN_WHOLE = ("value.other_weights", "layout.reordered")
LOW_RANK = "value.low_rank"
UNEXPLAINED = "unexplained"


class Engine:
    """Collects the findings of one run; see `Diagnoser`.

    Of two models that are not one (`wrong_pair`) there is one finding, and no cause is looked for any more.
    """

    def __init__(self, stop_at_first: bool = False) -> None:
        self.findings: list[Finding] = []
        self.proven: list[Proposal | None] = []  # what each finding was proven with; None where it was not
        self.refuted: list[Refuted] = []
        self.seconds = 0.0
        self._levels: list[Proposal] = []  # found at the last stage, of the believed side
        self._unexplained: set[tuple[str, str]] = set()
        self._in_vain = Counter[str]()  # stages, in whichever layer, that nothing explained
        self._causeless: set[str] = set()  # weights that nothing explained
        self._explained: set[str] = set()  # those that something did
        self._related: Related | None = None  # weights that may be of another training
        self._first: Evidence | None = None  # where the first fault is
        self.wrong_pair = self._right_pair = False
        self.strangers = False  # two models that have nothing in common
        self._at_sight: Likeness | None = None  # of two models, as foreseen
        self._stored: ModelPair | None = None  # before any repair
        # A run that ends at its first fault sees one.
        self._causeless_enough = 1 if stop_at_first else CAUSELESS

    def foresees_two_models(self, pair: ModelPair) -> bool:
        """Whether the sides are two models at sight; the finding is made at the first fault."""
        self._stored = pair
        if pair.observed is None and not pair.weights.frugal:
            self._at_sight = strangers_at_sight(pair)
        return self._at_sight is not None

    def examine(self, node: Node, pair: ModelPair, outcome: Outcome) -> tuple[Model, Model] | None:
        """Look for the causes of a faulty stage; the repaired models where they are proven."""
        if self.wrong_pair:
            return None  # of two models nothing is wrong with either
        started = time.perf_counter()
        fault = Fault(node, pair, outcome)
        self._first = self._first or Evidence(stage=fault.stage, before=local_of(outcome), after=None)
        in_vain = fault.recorded and self._in_vain[node.stage] >= LAYERS_IN_VAIN
        trial = None if self._are_strangers(fault) or in_vain else Search(fault, self.refuted).run()
        if self.wrong_pair or self._is_wrong_pair(fault, trial):
            models = None
        elif (told := self._of_other_training(fault, trial)) is not None:
            models = told
        elif trial is None:
            self._in_vain[node.stage] += 1
            models = self._leave_unexplained(fault)
        else:
            models = self._believe(fault, trial)
        self.seconds += time.perf_counter() - started
        return models

    def _believe(self, fault: Fault, trial: Trial) -> tuple[Model, Model]:
        """Make findings of what a trial has shown; the repaired models."""
        self.findings += [_finding(fault, trial, proposal) for proposal in trial.proposals]
        self.proven += trial.proposals
        self._levels = [p for p in trial.proposals if p.role == "reference" and not p.moves]
        return trial.pair.reference.model, trial.pair.subject.model

    def rounded(self, pair: ModelPair) -> ModelPair | None:
        """The pair with the levels that the believed side lies on; see `Diagnoser`."""
        levels, self._levels = self._levels, []
        model = pair.reference.model
        for proposal in levels:
            model = proposal.repair.applied(model)
        return pair.with_models(model, pair.subject.model) if levels else None

    def _are_strangers(self, fault: Fault) -> bool:
        """Whether the sides are two models at sight, without a search for causes in a large matrix."""
        if self._right_pair or fault.recorded:
            return False
        # What is far away is not read before there is a fault.
        if fault.pair.weights.frugal and self._at_sight is None:
            self._at_sight = strangers_at_sight(fault.pair)
        if self._at_sight is not None:
            self._conclude(fault, self._at_sight)
        return self.wrong_pair

    def _is_wrong_pair(self, fault: Fault, trial: Trial | None) -> bool:
        """Whether the sides are two models, which takes the place of all that was found so far."""
        if fault.recorded:
            return not self._right_pair and trial is None and self._is_of_other_weights(fault)
        proven = [] if trial is None else [cause for cause in trial.proposals if not _takes_all(cause)]
        explained = {name for cause in proven for name in cause.repair.patches}
        self._explained |= explained
        self._causeless |= {name for name in fault.outcome.differing if name not in explained}
        if self._right_pair:
            return False
        # What is added to a matrix is of low rank between many a fine-tune and its base as well.
        if any(
            _is_matrix(fault, name)
            for cause in proven
            if cause.kind != LOW_RANK
            for name in cause.repair.patches
        ):
            self._right_pair = True
            return False
        if len(self._causeless) < self._causeless_enough:
            return False
        self._conclude(fault, likeness(self._stored or fault.pair))  # a repair makes weights alike
        return self.wrong_pair

    def _of_other_training(self, fault: Fault, trial: Trial | None) -> tuple[Model, Model] | None:
        """Let one finding take the place of those of all weights of another training.

        Returns:
            The models with these weights taken from the reference, and with the causes of others that were found at
            this stage; None where there are no such weights.
        """
        believed = fault.pair.reference.model
        if fault.recorded or fault.pair.weights.frugal or not are_many(self._causeless, believed):
            return None
        if self._related is None:
            self._related = related_weights(self._stored or fault.pair)
        part = trained_part(self._related, believed, self._causeless, self._explained)
        if part is None:
            return None
        of_part = [finding.tensor in part.correlations for finding in self.findings]
        shown = next(
            (f.evidence for f, is_of_it in zip(self.findings, of_part, strict=True) if is_of_it), None
        )
        self.findings = [f for f, is_of_it in zip(self.findings, of_part, strict=True) if not is_of_it]
        self.proven = [p for p, is_of_it in zip(self.proven, of_part, strict=True) if not is_of_it]
        place = len(self.findings)
        causes = [] if trial is None else [cause for cause in trial.proposals if not _takes_all(cause)]
        models = self._believe(
            fault, Search(fault, self.refuted).tried([taken_from_reference(fault, part), *causes])
        )
        if shown is not None:  # where the first of them showed
            self.findings[place] = self.findings[place].model_copy(update={"evidence": shown})
        return models

    def _is_of_other_weights(self, fault: Fault) -> bool:
        """Whether a recording shows by its products that it is of another model than the file."""
        self._causeless |= {name for name in fault.node.required if _is_matrix(fault, name)}
        if len(self._causeless) < self._causeless_enough or runs_otherwise(fault) is not None:
            return False
        said = of_other_weights(self._stored or fault.pair)
        self.wrong_pair, self._right_pair = said is not None, said is None
        if said is not None:
            self._put_first(two_models(fault, said, self._first))
        return self.wrong_pair

    def _put_first(self, finding: Finding) -> None:
        """Let a finding take the place of all that was found so far."""
        self.findings, self.proven, self.refuted[:] = [finding], [None], []

    def _conclude(self, fault: Fault, found: Likeness) -> None:
        """Let a sample of all matrices say whether the sides are two models."""
        self.wrong_pair, self._right_pair = found.of_two_models, not found.of_two_models
        self.strangers = found.of_strangers
        if self.wrong_pair:
            self._put_first(two_models(fault, found.words, self._first))

    def _leave_unexplained(self, fault: Fault) -> tuple[Model, Model] | None:
        """Say where a fault is of which no cause was proven; once for a setting that all layers share, or a table
        that embedding and head share.

        Returns:
            The models to go on with, where a size of the config is wrong that no tensor has.
        """
        suspected = suspicion(fault)
        what = suspected.tensor or suspected.key or fault.stage
        place = "key" if suspected.key else "rows" if suspected.remedy else fault.stage
        mark = (place, what)
        if mark in self._unexplained:
            return None
        self._unexplained.add(mark)
        self.proven.append(None)
        runtime = runs_otherwise(fault) if suspected.kind == UNEXPLAINED else None
        if runtime is not None:
            self.findings.append(_of_runtime(fault, runtime))
            return None
        self.findings.append(
            Finding(
                kind=suspected.kind,
                side=fault.side(
                    suspected.role or ("reference" if "reference" in fault.outcome.reasons else "subject")
                ),
                layer=None if suspected.key else fault.layer,
                tensor=suspected.tensor,
                key=suspected.key,
                **_own_names(fault, suspected.tensor),
                message=suspected.why if suspected.why.startswith(what) else f"{what}: {suspected.why}",
                recommendation=suspected.remedy
                or (
                    f"compare how both files were written at {what}"
                    if suspected.right is None
                    else f"write {what} {suspected.right}"
                ),
                status="suspected",
                evidence=Evidence(stage=fault.stage, before=local_of(fault.outcome), after=None),
            )
        )
        if suspected.key is None or suspected.right is None:
            return None
        return fault.reference.model, fault.subject.model.repaired({suspected.key: suspected.right})


def _takes_all(proposal: Proposal) -> bool:
    """Whether a repair takes all from the reference, which proves nothing; that a weight is another one's copy does."""
    return proposal.kind in TAKEN_WHOLE and proposal.partner is None


def _of_runtime(fault: Fault, runtime: str) -> Finding:
    """What a runtime does otherwise than its file says, and nothing explains."""
    return Finding(
        kind=UNEXPLAINED,
        side=fault.side("reference"),
        layer=fault.layer,
        message=f"{fault.stage}: {runtime} computes it otherwise than its file says, and no hypothesis explains how",
        recommendation=f"look at how {runtime} computes {fault.node.stage}: the file is not at fault",
        status="suspected",
        evidence=Evidence(stage=fault.stage, before=local_of(fault.outcome), after=None),
    )


def _is_matrix(fault: Fault, name: str) -> bool:
    weight = fault.subject.model.weights.get(name)
    return weight is not None and len(weight.dims) > 1


def _own_names(fault: Fault, tensor: str | None) -> dict[str, Any]:
    """What each file calls the tensor."""
    if tensor is None:
        return {}
    names: dict[str, Any] = {}
    for suspect in (fault.subject, fault.reference):
        weight = suspect.model.weights.get(tensor) or suspect.model.weights.get(
            tensor.replace(".attn_qkv.", ".attn_q.")
        )
        names[f"{fault.side(suspect.role)}_name"] = weight.entry.name if weight else None
    return names


def deciding_ratio(fault: Fault) -> float | None:
    """The figure that a stage is faulty by: `Evidence.ratio_before`; None where it has no local error."""
    local, pairs = fault.outcome.local, map(fault.pair.weights.pair, fault.outcome.differing)
    if local is None or local.worst_ratio > 1:
        return None if local is None else local.worst_ratio
    return max((pair.worst_ratio for pair in pairs if pair is not None), default=local.worst_ratio)


def _finding(fault: Fault, trial: Trial, proposal: Proposal) -> Finding:
    local, before = trial.outcome.local, deciding_ratio(fault)
    after = 0.0 if local is None else local.worst_ratio
    agree = bool(fault.outcome.differing) and not trial.outcome.differing  # weights that differed by a block
    dropped = agree or before is None or after <= REAL_DROP * before
    instead = of_observed_side(fault, proposal)
    said = proposal if instead is None else instead
    return Finding(
        kind=said.kind,
        side=fault.side(proposal.role if instead is None else "reference"),
        layer=fault.layer if proposal.tensor else None,
        tensor=proposal.tensor,
        key=proposal.key,
        partner=proposal.partner,
        alternatives=list(proposal.alternatives),
        **_own_names(fault, proposal.tensor),
        declared=proposal.declared,
        actual=proposal.actual,
        message=said.message,
        recommendation=said.recommendation,
        status="confirmed" if dropped and not _takes_all(proposal) else "suspected",
        evidence=Evidence(
            stage=fault.stage,
            before=local_of(fault.outcome),
            after=0.0 if local is None else local.max_diff,
            predicted=0.0 if local is None else local.predicted_max_diff,
            ratio_before=before,
            ratio_after=after,
            from_reference=proposal.from_reference,
        ),
    )
