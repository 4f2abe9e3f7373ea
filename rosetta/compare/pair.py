"""Two models advancing side by side, one stage at a time, each on its own inputs and both on the reference's.

What is equal is computed once: equal weights, config and inputs give one tensor for both sides, so that equal
files differ by exactly zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rosetta.attention import heads_at_once
from rosetta.compare.in_parts import InParts, Value, computed_in_parts, seen_by
from rosetta.compare.local_error import Sums
from rosetta.compare.metrics import count_nonfinite
from rosetta.compare.noise import Noise
from rosetta.compare.outcome import Computed, Outcome, folded, side_by_side
from rosetta.compare.results import Side
from rosetta.compare.weights import WeightPair, compare_weights
from rosetta.model import Model
from rosetta.runtimes.trace import RecordedRun
from rosetta.transformer import NotComputable, Op, Step, Transformer
from rosetta.weight import Weight

Pairs = dict[tuple[Weight, Weight], WeightPair]


class ModelPair:
    """The reference and the subject, with the stages that both have reached.

    Args:
        reference, subject: the two sides.
        reference_side: which of left and right the reference is.
        compared: comparisons of weights made so far, shared between pairs of the same files.
    """

    def __init__(
        self,
        reference: Transformer,
        subject: Transformer,
        reference_side: Side,
        compared: Pairs | None = None,
    ) -> None:
        self.reference, self.subject, self.reference_side = reference, subject, reference_side
        self.compared: Pairs = {} if compared is None else compared
        self.values: dict[str, Tensor] = {}
        self.subject_values: dict[str, Tensor] = {}
        self.in_parts: dict[str, InParts] = {}
        self.subject_in_parts: dict[str, InParts] = {}

    def start(self, tokens: list[int]) -> None:
        """Begin a run over the tokens."""
        ids = torch.tensor(tokens, dtype=torch.int64)
        self.values, self.subject_values = {"tokens": ids}, {"tokens": ids}
        self.in_parts, self.subject_in_parts = {}, {}

    def with_models(self, reference: Model, subject: Model) -> ModelPair:
        """The same run, from the same stages on, by other (repaired) models."""
        pair = ModelPair(
            self.reference.with_model(reference),
            self.subject.with_model(subject),
            self.reference_side,
            self.compared,
        )
        pair.values, pair.subject_values = dict(self.values), dict(self.subject_values)
        pair.in_parts, pair.subject_in_parts = dict(self.in_parts), dict(self.subject_in_parts)
        return pair

    @property
    def recording(self) -> RecordedRun | None:
        """The reference, where it is a recorded run without weights."""
        return self.reference if isinstance(self.reference, RecordedRun) else None

    def weight_pair(self, full: str) -> WeightPair | None:
        """The comparison of a weight that both sides have, made once; None where one lacks it."""
        a, b = (side.model.weights.get(full) for side in (self.reference, self.subject))
        if a is None or b is None:
            return None
        key = (replace(a, name=""), replace(b, name=""))
        if key not in self.compared:
            cache = self.reference.cache
            self.compared[key] = compare_weights(a, b, cache.device, cache.kept)
        return self.compared[key]

    def has_compared(self, full: str) -> bool:
        """Whether `weight_pair` has the answer already."""
        a, b = (side.model.weights.get(full) for side in (self.reference, self.subject))
        return a is not None and b is not None and (replace(a, name=""), replace(b, name="")) in self.compared

    def forget(self) -> None:
        """Drop the weights that were decoded for the stage at hand."""
        self.reference.cache.clear()
        self.subject.cache.clear()

    def run(self, layer: int | None, op: Op, subject_op: Op, twin: Twin | None = None) -> Outcome:
        """Compute one stage on both sides, on own inputs and on the reference's, and predict its noise.

        Args:
            layer: of the stage; None outside the layers.
            op, subject_op: the operation, as each side's architecture has it.
            twin: the same stage of a run whose models or inputs differ in part.
        """
        known = None if twin is None else self._from_twin(twin, layer, op, subject_op)
        if known is not None:
            return known
        counts = (self.reference.model.block_count, self.subject.model.block_count)
        if layer is not None and layer >= max(counts):
            return Outcome(None, None, None, absent=True)
        if self.recording is not None and not self.recording.records(layer, op):
            return self._run_unrecorded(layer, subject_op)
        pairs = self._weight_pairs(layer, op, subject_op)
        heads = self._heads_at_once(op, subject_op)
        if heads and op.by_head:
            return self._run_in_parts(layer, op, subject_op, heads)
        if heads:
            names = {*op.inputs, *subject_op.inputs}
            parts = [
                self._of_heads(names, some, heads[-1].stop)._both(layer, op, subject_op, pairs)
                for some in heads
            ]
            return self._judged(layer, op, side_by_side(parts), pairs)
        return self._judged(layer, op, self._both(layer, op, subject_op, pairs), pairs)

    def _from_twin(self, twin: Twin, layer: int | None, op: Op, subject_op: Op) -> Outcome | None:
        """The outcome, where both sides make of the reference's inputs what they made in the twin: the local error is
        the same then, and only the subject's own inputs may give it another value. None where they do not."""
        found, inputs = twin.outcome, {*op.inputs, *subject_op.inputs}
        if (
            found.reasons
            or not isinstance(found.reference, Tensor)
            or not isinstance(found.subject, Tensor)
            or not all(_equal(self.values.get(name), twin.pair.values.get(name)) for name in inputs)
            or not _reads_alike(self.reference, twin.pair.reference, layer, op)
            or not _reads_alike(self.subject, twin.pair.subject, layer, subject_op)
        ):
            return None
        if all(_equal(self.subject_values.get(n), twin.pair.subject_values.get(n)) for n in inputs):
            return found
        own_inputs = self._has_own_inputs(op)
        equal = (
            found.sums is not None and not found.sums
        )  # weights and config, which make of one input one value
        if equal and not own_inputs:
            return replace(found, subject=found.reference, nonfinite=(found.nonfinite[0],) * 2)
        reasons: dict[str, NotComputable] = {}
        values = self.subject_values if own_inputs else self._for_subject()
        b = self._compute(self.subject, layer, subject_op, values, reasons, "subject")
        if b is None:
            return None
        return replace(found, subject=b, nonfinite=(found.nonfinite[0], count_nonfinite(b)))

    def _has_own_inputs(self, op: Op) -> bool:
        """Whether the subject has come to other inputs of a stage than the reference."""
        return any(
            name in self.values and self._moved(self.values[name]) is not self.subject_values.get(name)
            for name in op.inputs
        )

    def _run_in_parts(self, layer: int | None, op: Op, subject_op: Op, heads: Sequence[range]) -> Outcome:
        """A stage of which only some heads are held at a time: judged as they come, computed anew when asked for."""
        names = {*op.inputs, *subject_op.inputs}
        reference = computed_in_parts(self.reference, layer, op, self.values, heads)
        subject = computed_in_parts(self.subject, layer, subject_op, self.subject_values, heads)

        def judged(some: range) -> Outcome:
            part = self._of_heads(names, some, heads[-1].stop)
            outcome = part._judged(layer, op, part._both(layer, op, subject_op, {}), {})
            return outcome.with_values(reference, subject)

        return folded([judged(some) for some in heads])

    def _both(
        self, layer: int | None, op: Op, subject_op: Op, pairs: Mapping[str, WeightPair | None]
    ) -> Computed:
        """Compute one stage on both sides, on own inputs and on the reference's."""
        counts = (self.reference.model.block_count, self.subject.model.block_count)
        reasons: dict[str, NotComputable] = {}
        a = self._compute(self.reference, layer, op, self.values, reasons, "reference")
        held = layer is None or layer < min(counts)
        same = held and not reasons and self.recording is None and self._same(op, subject_op, pairs)
        own_inputs = self._has_own_inputs(op)
        if same:
            local_b = a
            for full in pairs:
                self.subject.cache.share(self.subject.model.weights[full], self.reference.model.weights[full])
        else:
            local_b = self._compute(self.subject, layer, subject_op, self._for_subject(), reasons, "subject")
        b = local_b
        if own_inputs and "subject" not in reasons:
            b = self._compute(self.subject, layer, subject_op, self.subject_values, reasons, "subject")
        if self.recording is not None and op.name == "logits" and a is not None and local_b is not None:
            a = without_gauge(a, self._to(local_b, self.reference))
        return Computed(a, local_b, b, same, reasons)

    def _judged(
        self, layer: int | None, op: Op, both: Computed, pairs: Mapping[str, WeightPair | None]
    ) -> Outcome:
        """What a stage's values are worth: the local error beside its noise, and whether they are numbers."""
        a, b = both.reference, both.subject
        sums = [] if both.same and a is not None else self._local(layer, op, a, both.local_subject, pairs)
        differing = tuple(
            name for name, pair in pairs.items() if pair is not None and pair.state == "differing"
        )
        bad_a = 0 if a is None else count_nonfinite(a)
        bad_b = bad_a if b is a else 0 if b is None else count_nonfinite(b)
        return Outcome(a, b, sums, both.reasons, (bad_a, bad_b), differing)

    def _heads_at_once(self, op: Op, subject_op: Op) -> Sequence[range]:
        """The heads that are computed together, where a stage or its input is too large to be held whole; else none.

        Where the sides' heads are not of one number, or one is a recording, the stage is held whole.
        """
        for name in op.inputs:
            if name in self.in_parts:
                return self.in_parts[name].heads
        if not (op.by_head and subject_op.by_head) or self.recording is not None:
            return ()
        sizes = {
            tuple(values[name].shape[:2] for name in names if name in values)
            for names in (op.inputs, subject_op.inputs)
            for values in (self.values, self.subject_values)
        }
        if len(sizes) > 1 or len(next(iter(sizes))) < len(op.inputs):
            return ()
        [[(tokens, heads), (_, kv_heads)]] = sizes  # of queries and keys
        if heads % kv_heads:
            return ()
        found = heads_at_once(heads, kv_heads, tokens)
        return found if len(found) > 1 else ()

    def _of_heads(self, names: Iterable[str], some: range, total: int) -> ModelPair:
        """The same run with no more of some stages than some of all heads see."""
        whole: Mapping[str, Value] = {**self.values, **self.in_parts}
        subject_whole: Mapping[str, Value] = {**self.subject_values, **self.subject_in_parts}
        part = copy(self)
        part.values = {name: seen_by(whole[name], some, total) for name in names if name in whole}
        part.subject_values = {  # what is one tensor for both sides stays one
            name: part.values[name]
            if subject_whole[name] is whole.get(name)
            else seen_by(subject_whole[name], some, total)
            for name in names
            if name in subject_whole
        }
        return part

    def _run_unrecorded(self, layer: int | None, op: Op) -> Outcome:
        """A stage that the recording lacks: the subject's own, from the recorded stages before it."""
        reasons: dict[str, NotComputable] = {}
        a = self._compute(self.subject, layer, op, self._for_subject(), reasons, "subject")
        b = self._compute(self.subject, layer, op, self.subject_values, reasons, "subject")
        return Outcome(None if a is None else self._to(a, self.reference), b, [], unrecorded=True)

    def advance(self, op: Op, outcome: Outcome) -> None:
        """Take the stage's values as inputs of the next; where one is missing or not finite, the other's."""
        if outcome.absent:
            return
        a, b = outcome.reference, outcome.subject
        bad_a, bad_b = outcome.nonfinite[0] > 0, outcome.nonfinite[1] > 0
        if a is None or (bad_a and b is not None and not bad_b):
            a = None if b is None else b.to(self.reference.cache.device)
        if b is None or not outcome.comparable:
            b = None if a is None else a.to(self.subject.cache.device)
        for values, in_parts, value in (
            (self.values, self.in_parts, a),
            (self.subject_values, self.subject_in_parts, b),
        ):
            values.pop(op.name, None)
            in_parts.pop(op.name, None)
            if isinstance(value, InParts):
                in_parts[op.name] = value
            elif value is not None:
                values[op.name] = value
                if op.name in ("embedding", "residual"):
                    values["stream"] = value

    def _weight_pairs(self, layer: int | None, op: Op, subject_op: Op) -> dict[str, WeightPair | None]:
        """Comparisons of all weights that either side uses in a stage, by full name; None: on one side only."""
        prefix = "" if layer is None else f"blk.{layer}."
        names = [
            prefix + name
            for name in dict.fromkeys([*op.weights, *op.optional, *subject_op.weights, *subject_op.optional])
        ]
        present = [n for n in names if n in self.reference.model.weights or n in self.subject.model.weights]
        return {name: self.weight_pair(name) for name in present}

    def _same(self, op: Op, subject_op: Op, pairs: Mapping[str, WeightPair | None]) -> bool:
        """Whether both sides would compute the same from the same inputs, on the same device."""
        a, b = self.reference, self.subject
        return (
            all(pair is not None and pair.state == "identical" for pair in pairs.values())
            and all(a.model.contradiction(name) == b.model.contradiction(name) for name in pairs)
            and op.keys == subject_op.keys
            and a.model.architecture.gguf == b.model.architecture.gguf
            and all(same_setting(a.model.config[key].value, b.model.config[key].value) for key in op.keys)
            and a.cache.device == b.cache.device
        )

    def _compute(
        self,
        side: Transformer,
        layer: int | None,
        op: Op,
        values: Mapping[str, Tensor],
        reasons: dict[str, NotComputable],
        role: str,
    ) -> Tensor | None:
        missing = [name for name in op.inputs if name not in values]
        if missing:
            reasons[role] = NotComputable(f"its input {missing[0]} could not be computed on either side")
            return None
        try:
            return side.compute(layer, op, values)
        except NotComputable as reason:
            reasons[role] = reason
            return None

    def _local(
        self,
        layer: int | None,
        op: Op,
        a: Tensor | None,
        b: Tensor | None,
        pairs: Mapping[str, WeightPair | None],
    ) -> Sequence[Sums] | None:
        if a is None or b is None or a.shape != b.shape or count_nonfinite(a) or count_nonfinite(b):
            return None
        known = {name: pair for name, pair in pairs.items() if pair is not None}
        recording = self.recording
        noise = Noise(
            self.reference.model,
            self.subject.model,
            known,
            self.reference.cache.dtype,
            recording.rounding if recording is not None else None,
        )
        believed = self.subject if recording is not None else self.reference  # a recording has no weights
        with torch.inference_mode():
            step = Step(believed.model, layer, self.values, self.reference.cache)
            return noise.local(op, step, a, self._to(b, self.reference))

    def _for_subject(self) -> Mapping[str, Tensor]:
        """The reference's stages on the subject's device."""
        if self.reference.cache.device == self.subject.cache.device:
            return self.values
        return {name: self._moved(value) for name, value in self.values.items()}

    def _moved(self, value: Tensor) -> Tensor:
        return self._to(value, self.subject)

    @staticmethod
    def _to(value: Tensor, side: Transformer) -> Tensor:
        return value if value.dtype == torch.int64 else value.to(side.cache.device)


@dataclass(frozen=True)
class Twin:
    """A run over the same tokens, as far as a stage that it has just come to, and what that gave."""

    pair: ModelPair
    outcome: Outcome


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two values of a stage are there and the same, bit for bit."""
    if a is None or b is None or a is b:
        return a is not None and b is not None
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def _reads_alike(side: Transformer, before: Transformer, layer: int | None, op: Op) -> bool:
    """Whether two models of one side read the same weights and settings in an operation."""
    a, b, prefix = side.model, before.model, "" if layer is None else f"blk.{layer}."
    names = [prefix + name for name in (*op.weights, *op.optional)]
    return (
        a.architecture == b.architecture
        and (layer is None or (layer < a.block_count) == (layer < b.block_count))
        and all(a.weights.get(name) == b.weights.get(name) for name in names)
        and all(a.contradiction(name) == b.contradiction(name) for name in names)
        and all(a.config.get(key) == b.config.get(key) for key in op.keys)
    )


def without_gauge(logits: Tensor, other: Tensor) -> Tensor:
    """Recorded logits moved by a constant per token to where the other side's lie: softmax takes no notice of it,
    and runtimes that centre their logits differ by it.

    Args:
        logits, other: [T, V].
    """
    if logits.shape != other.shape:
        return logits
    constant = (other.double() - logits.double()).mean(-1, keepdim=True)
    spread = (other.double() - logits.double() - constant).square().mean().sqrt()
    # Only a constant that stands out is a gauge; a small mean of noise is not.
    return logits + constant.to(logits.dtype) if bool((constant.abs() > 4 * spread).any()) else logits


def same_setting(a: Any, b: Any) -> bool:
    """Whether two canonical settings are the same value."""
    return type(a) is type(b) and bool(a == b)
