"""Two models advancing side by side, one stage at a time, each on its own inputs and both on the reference's.

What is equal is computed once: equal weights, config and inputs give one tensor for both sides, so that equal
files differ by exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rosetta.compare.ahead import expect_stages
from rosetta.compare.compared_weights import ComparedWeights
from rosetta.compare.doubt import Doubt
from rosetta.compare.expected_products import expect_products
from rosetta.compare.held_heads import heads_held_at_once
from rosetta.compare.in_parts import Value, computed_in_parts, seen_by
from rosetta.compare.lane import Lane, computed_or_reason, tensors
from rosetta.compare.local_error import Sums
from rosetta.compare.metrics import count_nonfinite
from rosetta.compare.noise import RoundingOfObserved, RoundingOfPair, local_parts
from rosetta.compare.observed_reference import as_observed, explained, keep_decoded, recall, run_unobserved
from rosetta.compare.outcome import Computed, Outcome, folded, side_by_side
from rosetta.compare.pairing import Pairing, Role
from rosetta.compare.results import Side
from rosetta.compare.twin_runs import Twin, outcome_of_twin
from rosetta.compare.unrecorded import compute_anew
from rosetta.compare.weights import WeightPair
from rosetta.graph import TOKENS, Node
from rosetta.model import Model
from rosetta.ops.as_observed import Given
from rosetta.ops.op import NotComputable, Rounding, Step
from rosetta.runtimes.runtime import Runtime


class ModelPair:
    """The reference and the subject, with the stages that both have reached.

    Args:
        runtimes: the two sides.
        compared: of the same files under other models, whose comparisons serve this pair, too.
        frugal: see `ComparedWeights`.
    """

    def __init__(
        self, runtimes: Pairing[Runtime], compared: ComparedWeights | None = None, *, frugal: bool = False
    ) -> None:
        layers = max(_layers(runtimes.reference), runtimes.subject.model.block_count)
        self.lanes = runtimes.each(lambda runtime: Lane(runtime, runtime.model.graph_of(layers)))
        graphs = self.lanes.each(lambda lane: frozenset(node.name for node in lane.graph))
        self.lanes.reference.private = graphs.reference - graphs.subject
        self.lanes.subject.private = graphs.subject - graphs.reference
        self.weights = ComparedWeights(self.lanes, frugal=frugal, before=compared)
        self.doubt = Doubt()

    @property
    def reference(self) -> Lane:
        """The side that is believed."""
        return self.lanes.reference

    @property
    def subject(self) -> Lane:
        """The other one."""
        return self.lanes.subject

    @property
    def reference_side(self) -> Side:
        """Which of left and right the reference is."""
        return self.lanes.reference_side

    @property
    def observed(self) -> Runtime | None:
        """The reference, where it was observed: a recorded run without weights."""
        return None if self.reference.runtime.computes else self.reference.runtime

    def start(self, tokens: list[int]) -> None:
        """Begin a run over the tokens; of one before it, the float that it was seen to compute in is kept."""
        ids = torch.tensor(tokens, dtype=torch.int64)
        for lane in (self.reference, self.subject):
            lane.values = {TOKENS: ids}
        self.doubt = Doubt(coarser=self.doubt.coarser)

    def with_models(self, reference: Model, subject: Model) -> ModelPair:
        """The same run, from the same stages on, by other (repaired) models."""
        models = self.lanes.with_both(reference, subject)
        runtimes = self.lanes.with_both(
            self.reference.runtime.with_model(models.reference),
            self.subject.runtime.with_model(models.subject),
        )
        pair = ModelPair(runtimes, self.weights, frugal=self.weights.frugal)
        for lane, own in ((pair.reference, self.reference), (pair.subject, self.subject)):
            lane.values, lane.handed_on = dict(own.values), own.handed_on
            lane.passed = own.passed | self.reference.private | self.subject.private
        pair.doubt = self.doubt.copied()
        if self.observed is not None:
            compute_anew(pair.reference, pair.subject, self.subject)
        return pair

    def expect(self, first: Node) -> None:
        """Say which stages come next, for what of them is far away: this one and those of its layer behind it."""
        for lane in (self.reference, self.subject):
            expect_stages(lane, first)

    def forget(self) -> None:
        """Drop the weights that were decoded for the stage at hand."""
        self.reference.runtime.cache.clear()
        self.subject.runtime.cache.clear()

    def nodes(self, stage: str) -> tuple[Node, Node] | None:
        """A stage as each side's graph has it, by full name; None where one of them lacks it."""
        a, b = self.reference.graph.get(stage), self.subject.graph.get(stage)
        return None if a is None or b is None else (a, b)

    def run(self, stage: str, twin: Twin | None = None, at_most: float | None = None) -> Outcome:
        """Compute one stage on both sides, on own inputs and on the reference's, and predict its noise.

        Args:
            stage: its full name.
            twin: the same stage of a run whose models or inputs differ in part.
            at_most: root mean square of the largest local difference from an observed side that noise is asked for.
        """
        nodes = self.nodes(stage)
        counts = (self.reference.model.block_count, self.subject.model.block_count)
        if nodes is None or (nodes[0].layer is not None and nodes[0].layer >= max(counts)):
            return Outcome(None, None, None, absent=True)
        node, other = nodes
        if isinstance(other.op, Given):
            return as_observed(self, node)
        known = None if twin is None else outcome_of_twin(self, twin, node, other)
        if known is not None and twin is not None:
            self.doubt.adopt(twin.pair.doubt, stage)
            return known
        if self.observed is not None:
            recall(self, other)
            if not self.observed.offers(stage):
                return run_unobserved(self, other)
        expect_products(self.reference, self.subject, nodes, self.for_subject())
        pairs = self.weights.used_by(node, other)
        alike = self._same(node, other, pairs) and not self.has_own_inputs(node, other)
        heads = heads_held_at_once(self.reference, self.subject, nodes, alike=alike)
        if heads and node.op.by_head:
            return self._run_in_parts(node, other, heads)
        if heads:
            return self._run_side_by_side(node, other, heads, pairs)
        computing = node
        if self.observed is not None:  # whose own operations are not known
            computing = other
            keep_decoded(self, other)
        both = self._both(node, other, pairs)
        if at_most is not None and (beyond := _beyond(both, at_most)) is not None:
            return self._judged(both, pairs, [beyond])
        outcome = self._judged(both, pairs, self._sums(computing, both, pairs))
        return outcome if self.observed is None else explained(self, node, other, outcome, both.reference)

    def has_own_inputs(self, node: Node, other: Node) -> bool:
        """Whether the subject has come to other inputs of a stage than the reference."""
        values = self.reference.values
        return node.inputs != other.inputs or any(
            name in values and self.subject.moved(values[name]) is not self.subject.values.get(name)
            for name in node.inputs
        )

    def _run_in_parts(self, node: Node, other: Node, heads: Sequence[range]) -> Outcome:
        """A stage of which only some heads are held at a time: judged as they come, computed anew when asked for."""
        reference, subject = (
            computed_in_parts(lane.runtime, own, tensors(lane.values, own.inputs), heads)
            for lane, own in ((self.reference, node), (self.subject, other))
        )

        def judged(some: range) -> Outcome:
            both, sums = self._of_some(node, other, some, heads, {})
            return self._judged(both, {}, sums).with_values(reference, subject)

        return folded([judged(some) for some in heads])

    def _run_side_by_side(
        self, node: Node, other: Node, heads: Sequence[range], pairs: Mapping[str, WeightPair | None]
    ) -> Outcome:
        """A stage that is held whole, of heads that are computed some at a time."""
        parts, sums = zip(*(self._of_some(node, other, some, heads, pairs) for some in heads), strict=True)
        known = [found for found in sums if found is not None]
        whole = [one for found in known for one in found] if len(known) == len(sums) else None
        return self._judged(side_by_side(parts), pairs, whole)

    def _of_some(
        self,
        node: Node,
        other: Node,
        some: range,
        heads: Sequence[range],
        pairs: Mapping[str, WeightPair | None],
    ) -> tuple[Computed, Sequence[Sums] | None]:
        """What some heads give of a stage, and their local error; what they see is let go of with the return."""
        part = self._of_heads({*node.inputs, *other.inputs}, some, heads[-1].stop)
        both = part._both(node, other, pairs)
        return both, part._sums(node, both, pairs)

    def _both(self, node: Node, other: Node, pairs: Mapping[str, WeightPair | None]) -> Computed:
        """Compute one stage on both sides, on own inputs and on the reference's."""
        reasons: dict[Role, NotComputable] = {}
        a = computed_or_reason(self.reference, node, self.reference.values, reasons, "reference")
        same = not reasons and self._same(node, other, pairs)
        own_inputs = self.has_own_inputs(node, other)
        local_b = None
        if same:
            local_b = a
            for full in pairs:
                cache, models = self.subject.runtime.cache, (self.subject.model, self.reference.model)
                cache.share(*(model.weights[full] for model in models))
        elif not (own_inputs and _of_two_models(pairs)):
            local_b = computed_or_reason(self.subject, other, self.for_subject(), reasons, "subject")
        b = local_b
        if own_inputs and "subject" not in reasons:
            b = computed_or_reason(self.subject, other, self.subject.values, reasons, "subject")
        if a is not None and local_b is not None:
            a = self.reference.runtime.settled(node, a, local_b.to(a.device)) if a is not local_b else a
        return Computed(a, local_b, b, same, reasons)

    def _sums(
        self, node: Node, both: Computed, pairs: Mapping[str, WeightPair | None]
    ) -> Sequence[Sums] | None:
        """A stage's local error beside its noise; nothing where both sides compute the same."""
        a = both.reference
        return [] if both.same and a is not None else self.local(node, a, both.local_subject, pairs)

    def _judged(
        self, both: Computed, pairs: Mapping[str, WeightPair | None], sums: Sequence[Sums] | None
    ) -> Outcome:
        """What a stage's values are worth, beside its local error, and whether they are numbers."""
        a, b = both.reference, both.subject
        differing = tuple(
            name for name, pair in pairs.items() if pair is not None and pair.state == "differing"
        )
        bad_a = 0 if a is None else count_nonfinite(a)
        bad_b = bad_a if b is a else 0 if b is None else count_nonfinite(b)
        return Outcome(a, b, sums, both.reasons, (bad_a, bad_b), differing)

    def _of_heads(self, names: Iterable[str], some: range, total: int) -> ModelPair:
        """The same run with no more of some stages than some of all heads see."""
        whole, subject_whole = self.reference.values, self.subject.values
        values: dict[str, Value] = {
            name: seen_by(whole[name], some, total) for name in names if name in whole
        }
        subject_values = {  # what is one tensor for both sides stays one
            name: values[name]
            if subject_whole[name] is whole.get(name)
            else seen_by(subject_whole[name], some, total)
            for name in names
            if name in subject_whole
        }
        part = copy(self)
        part.lanes = self.lanes.with_both(
            replace(self.reference, values=values), replace(self.subject, values=subject_values)
        )
        return part

    def advance(self, stage: str, outcome: Outcome) -> None:
        """Take the stage's values as inputs of the next; where one is missing or not finite, the other's."""
        if outcome.absent:
            return
        a, b = outcome.reference, outcome.subject
        bad_a, bad_b = outcome.nonfinite[0] > 0, outcome.nonfinite[1] > 0
        if a is None or (bad_a and b is not None and not bad_b):
            a = None if b is None else self.reference.moved(b)
        if b is None or not outcome.comparable:
            b = None if a is None else self.subject.moved(a)
        self.reference.put(stage, a)
        self.subject.put(stage, b)
        self._drop_read(stage)

    def _drop_read(self, stage: str) -> None:
        """Drop what no stage behind this one is computed from, on either side."""
        nodes = self.nodes(stage)
        if nodes is None:
            return
        graphs = (self.reference.graph, self.subject.graph)
        done = [
            name
            for name in {*nodes[0].inputs, *nodes[1].inputs}
            if name != TOKENS and all(graph.last_reader.get(name, stage) == stage for graph in graphs)
        ]
        self.reference.forget(done)
        self.subject.forget(done)
        self.doubt.forget(done)

    def _same(self, node: Node, other: Node, pairs: Mapping[str, WeightPair | None]) -> bool:
        """Whether both sides would compute the same from the same inputs, on the same device."""
        a, b = self.reference, self.subject
        if node.layer is not None and node.layer >= min(a.model.block_count, b.model.block_count):
            return False
        own, theirs = a.model.settings_of(node.layer), b.model.settings_of(other.layer)
        return (
            a.runtime.computes
            and b.runtime.computes
            and all(pair is not None and pair.state == "identical" for pair in pairs.values())
            and all(a.model.contradiction(name) == b.model.contradiction(name) for name in pairs)
            and (node.op, node.inputs) == (other.op, other.inputs)
            and a.model.architecture.gguf == b.model.architecture.gguf
            and all(same_setting(own[key], theirs[key]) for key in node.keys)
            and a.runtime.cache.device == b.runtime.cache.device
            and a.runtime.chunks == b.runtime.chunks
        )

    def local(
        self,
        node: Node,
        a: Tensor | None,
        b: Tensor | None,
        pairs: Mapping[str, WeightPair | None],
        arithmetic: torch.dtype | None = None,
        strays: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None,
    ) -> Sequence[Sums] | None:
        """How far apart a stage's values are from the reference's inputs, beside what is predicted of their rounding.

        Args:
            node: the stage.
            a, b: the reference's value and the subject's.
            pairs: the weights that it reads.
            arithmetic: the coarser float that an observed side's steps are in.
            strays: what that side rounds of the inputs besides.

        Returns:
            The sums that a local error is made of; None where the values cannot be compared.
        """
        if a is None or b is None or a.shape != b.shape or count_nonfinite(a) or count_nonfinite(b):
            return None
        cache = self.reference.runtime.cache
        believed, rounding = self.reference, self.rounding(pairs, arithmetic)
        if self.observed is not None:  # it has no weights, nor the stages that a repair makes of others
            believed = self.subject
        inputs = [x.to(cache.device) for x in believed.gathered(node, self._inputs_of(believed))]
        doubt = None
        if self.observed is not None:
            rounded = () if strays is None else strays(inputs)
            doubt = self.doubt.carried(node, inputs, self.by_subject(node), rounded)
        with torch.inference_mode():
            step = Step(believed.model, node.layer, cache)
            return local_parts(node, step, rounding, inputs, a, b.to(cache.device), doubt)

    def by_subject(self, node: Node) -> Callable[[Sequence[Tensor]], Tensor]:
        """A stage as the subject computes it, from values on the reference's device."""
        runtime, device = self.subject.runtime, self.reference.runtime.cache.device

        def compute(inputs: Sequence[Tensor]) -> Tensor:
            return runtime.compute(node, [x.to(runtime.cache.device) for x in inputs]).to(device)

        return compute

    def rounding(
        self, pairs: Mapping[str, WeightPair | None], arithmetic: torch.dtype | None = None
    ) -> Rounding:
        """What is known of the rounding of both sides, an observed one's steps perhaps in a coarser arithmetic."""
        if self.observed is not None:
            return RoundingOfObserved(self.observed, self.subject.model, arithmetic or torch.float32)
        known = {name: pair for name, pair in pairs.items() if pair is not None}
        dtype = self.reference.runtime.cache.dtype
        return RoundingOfPair(self.reference.model, self.subject.model, known, dtype)

    def _inputs_of(self, lane: Lane) -> dict[str, Value]:
        """The reference's stages on a side's device."""
        return self.for_subject() if lane is self.subject else self.reference.values

    def for_subject(self) -> dict[str, Value]:
        """The reference's stages on the subject's device."""
        if self.reference.runtime.cache.device == self.subject.runtime.cache.device:
            return self.reference.values
        return {name: self.subject.moved(value) for name, value in self.reference.values.items()}


def _beyond(both: Computed, at_most: float) -> Sums | None:
    """The local error of a stage that is further off than that, with no noise predicted; None where it is not."""
    a, b = both.reference, both.local_subject
    if a is None or b is None or a.shape != b.shape or not a.numel():
        return None
    found = Sums.of(b.to(a.device) - a, a.new_zeros(()), a)
    return found if found.gap > found.count * at_most**2 else None


def _layers(runtime: Runtime) -> int:
    """How many layers a side has; an observed one those as far as it shows any stage."""
    count, model = runtime.model.block_count, runtime.model
    if runtime.computes:
        return count
    shown = (node.layer for node in reversed(model.graph.nodes) if runtime.offers(node.name))
    return next((layer + 1 for layer in shown if layer is not None), count)


def _of_two_models(pairs: Mapping[str, WeightPair | None]) -> bool:
    """Whether a weight in use was looked at no further than that it differs: of the rounding of two models there is
    nothing to say, and a third product and a prediction would cost twice as much as both sides' own."""
    return any(pair is not None and pair.sampled is not None for pair in pairs.values())


def same_setting(a: Any, b: Any) -> bool:
    """Whether two canonical settings are the same value."""
    return type(a) is type(b) and bool(a == b)
