"""The search for what repairs one faulty stage.

A stage may have several faults at once: a wrong setting, two wrong weights. Settings are tried alone, weights are
repaired one by one until each agrees with its counterpart, and what is confirmed is the smallest set of repairs
that brings the stage back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from rosetta.compare.outcome import Outcome
from rosetta.compare.pair import ModelPair
from rosetta.compare.pairing import other_role
from rosetta.compare.results import Refuted
from rosetta.compare.settings import agree
from rosetta.compare.unrecorded import unrecorded_behind
from rosetta.diagnose.hypotheses import Hypothesis, all_hypotheses, in_turn
from rosetta.diagnose.hypothesis import Fault, Proposal, looks_like
from rosetta.diagnose.kinds import kind_named
from rosetta.diagnose.proof import UNCHANGED, no_proof, takes_back
from rosetta.errors import RosettaError
from rosetta.ops.recurrent import Measured
from rosetta.settings_table import SETTINGS, Shows

LAST_RESORT = "value.corrupted"  # it explains anything, by taking it from the reference
MUCH = 0.5  # of what damage alone would take from the reference: another cause must leave it less than that
LIKENESS = 0.4  # correlation of some rows; unrelated matrices have none
FAR_OFF = 3.0  # less than a third of what a gross fault makes, a repair leaves
LARGEST_SET = 3  # settings that are bound to each other by shape: heads, kv heads, head size


@dataclass(frozen=True)
class Trial:
    """Proposals and what the stage gave with their repairs in place."""

    proposals: tuple[Proposal, ...]
    pair: ModelPair
    outcome: Outcome

    @property
    def confirmed(self) -> bool:
        """Whether the repairs bring the stage's local error back to its predicted noise.

        Of a recorded run, that noise must leave something of the stage: bytes misread as blocks with huge steps
        would explain any error, and there are no weights to belie them.
        """
        local = self.outcome.local
        if self.pair.observed is not None and local is not None and local.predicted_rel_l2 >= 1:
            return False
        return self.outcome.absent or (self.outcome.comparable and not self.outcome.faulty)


class Search:
    """The search for the smallest set of proposals that repairs one stage."""

    def __init__(self, fault: Fault, refuted: list[Refuted]) -> None:
        self.fault, self.refuted = fault, refuted
        self.settings: list[Proposal] = []
        self._own_keys = {
            *fault.node.keys,
            *(key for key, row in SETTINGS.items() if row.shows is not Shows.WHERE_READ),
        }
        self.tensors: dict[str, list[Proposal]] = {}

    def _ask(self, hypotheses: Iterable[Hypothesis]) -> None:
        """Add what some hypotheses propose."""
        for proposal in _ranked(proposal for propose in hypotheses for proposal in propose(self.fault)):
            if proposal.tensor is None or proposal.key is not None:
                self.settings.append(proposal)
            else:
                self.tensors.setdefault(proposal.tensor, []).append(proposal)
        # one order, whichever module proposes them
        self.settings = sorted(self.settings, key=lambda p: (rank(p.kind), self._left_differing(p), p.kind))

    def _left_differing(self, proposal: Proposal) -> int:
        """How many settings of the two sides still differ with a repair in place: what others are worked out from
        brings them along, and is asked before them."""
        if len(self.settings) < 2 or self.fault.recorded:
            return 0
        pair = self._repaired([proposal])
        if pair is None:
            return len(SETTINGS)
        own, believed = pair.subject.model.config, pair.reference.model.config
        both = (key for key in own if key in believed)
        return sum(not agree(key, own[key].value, believed[key].value) for key in both)

    def run(self) -> Trial | None:
        """The first set that is confirmed, less what it does not need; None where none is."""
        tries = self._tries()
        for trial in tries:
            if trial.confirmed:
                trial = self._minimal(trial)
                return self._with_ties(trial, tries) if self.fault.recorded else trial
            self.refuted += [
                _refuted(self.fault, trial, proposal)
                for proposal in trial.proposals[:1]
                if len(trial.proposals) == 1
            ]
        return None

    def _tries(self) -> Iterator[Trial]:
        """What the stage gives with each set of proposals, no set twice."""
        tried: dict[frozenset[int], Sequence[Proposal]] = {frozenset(): ()}
        for chosen in self._sets():
            mark = frozenset(id(proposal) for proposal in chosen)
            if mark not in tried:
                tried[mark] = chosen
                yield self.tried(chosen)

    def _sets(self) -> Iterator[Sequence[Proposal]]:
        """Sets of proposals, those that take least from the reference first."""
        *first, last = in_turn(all_hypotheses())
        for hypotheses in first:
            self._ask(hypotheses)
            yield from self._sets_of_settings()
            found = [self._one_agreeing(proposals) for proposals in self.tensors.values()]
            yield _without_repeats([one] for one in found if one is not None)
        self._ask(last)
        weights = _without_repeats(self._agreeing(proposals) for proposals in self.tensors.values())
        yield weights
        # Where no weight differs visibly, or not all can be made to agree: each proposal by itself.
        yield from ([p] for p in _ranked(p for proposals in self.tensors.values() for p in proposals))
        yield from ([*chosen, *weights] for chosen in self._sets_of_settings())

    def _sets_of_settings(self) -> Iterator[tuple[Proposal, ...]]:
        """Settings that may be wrong at once, the smallest sets first; of what shows at the stage by way of unrecorded
        ones alone each by itself, as there may be dozens; and all of them, as where a whole table was left out."""
        yield from ((one,) for one in self.settings)
        own = [p for p in self.settings if len(self.fault.stages) == 1 or p.key in self._own_keys]
        # What a runtime may do otherwise is guessed, dozens of ways at a stage, and no shape binds one to another.
        most = LARGEST_SET if not self.fault.settings_unknown else 2
        for count in range(2, min(most, len(own)) + 1):
            yield from (chosen for chosen in combinations(own, count) if _compatible(chosen))
        first = {proposal.key: proposal for proposal in reversed(own)}
        if len(first) > LARGEST_SET:
            yield tuple(reversed(first.values()))

    def _with_ties(self, trial: Trial, rest: Iterator[Trial]) -> Trial:
        """The trial with other kinds of its rank, and other tensors of its kind, that are confirmed too: activations
        alone do not tell them apart."""
        if len(trial.proposals) > 1:
            return trial
        [proposal] = trial.proposals
        kinds, tensors = [], []
        for other in rest:
            if len(other.proposals) > 1 or rank(other.proposals[0].kind) > rank(proposal.kind):
                break
            [tie] = other.proposals
            if other.confirmed and tie.kind != proposal.kind:
                kinds.append(tie.kind)
            elif other.confirmed and proposal.tensor and tie.tensor not in (None, proposal.tensor):
                tensors.append(str(tie.tensor))
        if tensors:
            said = f"{proposal.message}; or {', or '.join(tensors)} is, which activations alone do not tell apart"
            proposal = replace(proposal, message=said)
        return replace(trial, proposals=(_with_alternatives(proposal, kinds),))

    def _agreeing(self, proposals: Sequence[Proposal]) -> Sequence[Proposal]:
        """What makes a tensor agree with the other side's: one proposal, two faults on one tensor, or nothing."""
        one = self._one_agreeing(proposals)
        if one is not None and rank(one.kind) < rank(LAST_RESORT):
            return [one]
        return self._two_agreeing(proposals, one) or ([] if one is None else [one])

    def _two_agreeing(self, proposals: Sequence[Proposal], damage: Proposal | None) -> Sequence[Proposal]:
        """A cause that concerns the whole tensor, and behind it another fault of the same tensor.

        Args:
            proposals: those for the tensor.
            damage: the one that explains it as damage, where one does.
        """
        for first in proposals:
            if not kind_named(first.kind).whole:
                continue
            pair = self._repaired([first])
            if pair is None or not _promising(pair, first.tensor or "", LIKENESS):
                continue
            behind = replace(self.fault, pair=pair)
            seconds = [p for propose in all_hypotheses() for p in propose(behind) if p.tensor == first.tensor]
            for second in _ranked(seconds):
                too_much = rank(second.kind) >= rank(LAST_RESORT) and second.taken > MUCH * _taken_by(
                    damage, first, pair
                )
                if second.kind == first.kind or too_much or self._takes_back(first, second, pair):
                    continue
                if self._agree([first, second]):
                    return [first, second]
        return []

    def _takes_back(self, first: Proposal, second: Proposal, pair: ModelPair) -> bool:
        """Whether a second repair of a tensor undoes most of what the first one did: together they prove neither."""
        name, both = first.tensor or "", self._repaired([first, second])
        if both is None:
            return False
        before, once, twice = (
            p.lanes.of_role(first.role).model.weights.get(name) for p in (self.fault.pair, pair, both)
        )
        return takes_back(before, once, twice)

    def _one_agreeing(self, proposals: Sequence[Proposal]) -> Proposal | None:
        """The first proposal for a tensor that makes all weights it changes agree with the other side's, with
        others of its rank that do so too as alternatives."""
        winner: Proposal | None = None
        ties: list[str] = []
        for proposal in proposals:
            if winner is not None and rank(proposal.kind) > rank(winner.kind):
                break
            if not self._agree([proposal]):
                continue
            if winner is None:
                winner = proposal
            elif proposal.kind != winner.kind and proposal.role == winner.role:
                ties.append(proposal.kind)
        if winner is None or not ties:
            return winner
        return _with_alternatives(winner, ties)

    def _agree(self, proposals: Sequence[Proposal]) -> bool:
        """Whether all weights that the proposals change agree with the other side's once they are changed."""
        pair = self._repaired(proposals)
        if pair is None:
            return False
        names = {name for proposal in proposals for name in proposal.repair.patches}
        if not all(_promising(pair, name, 0.5) for name in names):  # a few rows, before all of them
            return False
        # What is wrong with the other tensor of an exchange besides is found at its own stage.
        names -= {proposal.partner for proposal in proposals if proposal.partner is not None}
        states = [pair.weights.pair(name) for name in names]
        agreed = bool(states) and all(state is not None and state.state != "differing" for state in states)
        return agreed and self._proves(proposals, pair)

    def _proves(self, proposals: Sequence[Proposal], pair: ModelPair) -> bool:
        """Whether what agrees with repairs in place was wrong without them; what is no proof is kept with the reason.

        A repair that takes what it does from the other side makes no claim of where the values are, nor does one that
        says how far they were rounded.
        """
        if any(proposal.from_reference is not None or not proposal.moves for proposal in proposals):
            return True
        for proposal in proposals:
            before, after = (p.lanes.of_role(proposal.role).model.weights for p in (self.fault.pair, pair))
            truth = pair.lanes.of_role(other_role(proposal.role)).model.weights
            names = [name for name in proposal.repair.patches if name in before and name in truth]
            said = [no_proof(before[name], after[name], truth[name]) for name in names]
            # A weight that is left as it was, such as the part of a fused tensor that lay right, says nothing, unless
            # all of them are.
            told = [why for why in said if why != UNCHANGED] or said[:1]
            if why := next(filter(None, told), None):
                self._refute(proposals, why)
                return False
        return True

    def _refute(self, proposals: Sequence[Proposal], why: str) -> None:
        """Keep what a repair that proves nothing would have been, once."""
        before = local_of(self.fault.outcome)
        for p in proposals:
            refuted = Refuted(
                kind=p.kind,
                tensor=p.tensor,
                key=p.key,
                stage=self.fault.stage,
                before=before,
                after=None,
                why=why,
            )
            if refuted not in self.refuted:
                self.refuted.append(refuted)

    def _repaired(self, proposals: Iterable[Proposal]) -> ModelPair | None:
        """The pair with repairs in place; None where they leave no model."""
        models = {"reference": self.fault.pair.reference.model, "subject": self.fault.pair.subject.model}
        try:
            for proposal in proposals:
                models[proposal.role] = proposal.repair.applied(models[proposal.role])
            return self.fault.pair.with_models(models["reference"], models["subject"])
        except RosettaError:
            return None

    def tried(self, proposals: Sequence[Proposal]) -> Trial:
        """What the stage gives with the repairs of some proposals in place."""
        pair = self._repaired(proposals)
        if pair is None:
            return Trial(tuple(proposals), self.fault.pair, self.fault.outcome)
        return Trial(tuple(proposals), pair, self._outcome(pair))

    @cached_property
    def _at_most(self) -> float | None:
        """The largest difference, root mean square, that a repair may leave of an observed stage whose noise takes many
        runs to measure; None where it is worked out, or the fault is not far beyond it."""
        sums, local = self.fault.outcome.sums, self.fault.outcome.local
        is_measured = any(isinstance(op, Measured) for op in self.fault.node.op.links)
        if not self.fault.recorded or not is_measured or not sums or local is None:
            return None
        gap = math.sqrt(sum(part.gap for part in sums) / sum(part.count for part in sums))
        return gap / FAR_OFF if local.worst_ratio > FAR_OFF**2 else None

    def _outcome(self, pair: ModelPair) -> Outcome:
        """What the stage gives in a repaired pair; of an unrecorded one, what the first recorded one gives that is
        computed from it: that it can be computed proves nothing."""
        stage, observed = self.fault.stage, pair.observed
        outcome = pair.run(stage, at_most=self._at_most)
        if observed is None or not outcome.unrecorded or outcome.reasons:
            return outcome
        nodes = iter(pair.subject.graph)
        while next(nodes).name != stage:
            pass
        found = outcome
        for node in nodes:
            pair.advance(stage, found)
            stage, found = node.name, pair.run(node.name)
            behind = unrecorded_behind(pair.subject.graph, node.inputs, observed)
            if observed.offers(stage) and any(one.name == self.fault.stage for one in behind):
                return found
        return outcome

    def _minimal(self, trial: Trial) -> Trial:
        """The trial without proposals that the repair does not need."""
        for proposal in trial.proposals:
            if len(trial.proposals) > 1:
                fewer = self.tried([p for p in trial.proposals if p is not proposal])
                if fewer.confirmed:
                    trial = fewer
        return trial


def rank(kind: str) -> int:
    """The place of a kind among those that confirm: what takes least from the reference comes first, and wins."""
    return kind_named(kind).rank


def _ranked(proposals: Iterable[Proposal]) -> list[Proposal]:
    return sorted(proposals, key=lambda proposal: rank(proposal.kind))


def _compatible(proposals: Sequence[Proposal]) -> bool:
    """Whether no two proposals give one key another value."""
    return len({proposal.key for proposal in proposals}) == len(proposals)


def _by_rank_and_reach(group: Sequence[Proposal]) -> tuple[int, int]:
    """Order of groups: what takes least from the reference, then what explains most weights at once."""
    names = {name for proposal in group for name in proposal.repair.patches}
    return max((rank(proposal.kind) for proposal in group), default=0), -len(names)


def _without_repeats(groups: Iterable[Sequence[Proposal]]) -> list[Proposal]:
    """The proposals of all groups, less those that change a weight which a better group changes: an exchange is
    proposed from both ends."""
    kept: list[Proposal] = []
    changed: set[str] = set()
    for group in sorted(groups, key=_by_rank_and_reach):
        names = {name for proposal in group for name in proposal.repair.patches}
        if not names & changed:
            kept += group
            changed |= names
    return kept


def _promising(pair: ModelPair, name: str, least: float) -> bool:
    """Whether a repaired weight has something in common with the other side's, by a look at some rows."""
    a, b = (side.model.weights.get(name) for side in (pair.reference, pair.subject))
    return a is not None and b is not None and looks_like(a, b, least, either_sign=True)


def _taken_by(damage: Proposal | None, first: Proposal, pair: ModelPair) -> int:
    """How many weights damage alone would take from the reference: all, where nothing but a new layout lets them
    be compared at all."""
    if damage is not None:
        return damage.taken
    return pair.lanes.of_role(first.role).model.weights[first.tensor or ""].count


def _with_alternatives(proposal: Proposal, kinds: Iterable[str]) -> Proposal:
    return replace(proposal, alternatives=tuple(sorted({*proposal.alternatives, *kinds})))


def local_of(outcome: Outcome) -> float | None:
    """The largest local difference of a stage, where it has one."""
    return None if outcome.local is None else outcome.local.max_diff


def _refuted(fault: Fault, trial: Trial, proposal: Proposal) -> Refuted:
    return Refuted(
        kind=proposal.kind,
        tensor=proposal.tensor,
        key=proposal.key,
        stage=fault.stage,
        before=local_of(fault.outcome),
        after=local_of(trial.outcome),
    )
