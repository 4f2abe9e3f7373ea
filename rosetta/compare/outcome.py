"""What one stage gave on both sides, and how what a few heads gave makes up the stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from rosetta.compare.in_parts import Value
from rosetta.compare.lane import InputMissing
from rosetta.compare.local_error import Sums, local_error
from rosetta.compare.pairing import Role
from rosetta.compare.results import LocalError
from rosetta.ops.op import NotComputable


@dataclass(frozen=True)
class Explained:
    """An arithmetic that explains a stage.

    Args:
        words: what it is, as the end of "it is computed …".
        before: the local error without it.
    """

    words: str
    before: LocalError


@dataclass(frozen=True)
class Outcome:
    """One stage of both sides.

    Args:
        reference, subject: each side's value on its own inputs; None where a side cannot compute it.
        sums: the parts of the local error; None where it cannot be computed, empty where it is exactly zero.
        reasons: why a side cannot compute the stage.
        nonfinite: NaN and infinite values of (reference, subject).
        differing: weights in use of which a block differs by more than its dtypes explain.
        absent: whether neither side has the layer at all.
        unrecorded: whether the reference is a recording that lacks the stage: there is nothing to compare, unless the
            subject cannot compute it.
        explained: what the reference's runtime legitimately computes otherwise, where that alone brings the local
            error back to its noise; `sums` are then those of its imitation.
    """

    reference: Value | None
    subject: Value | None
    sums: Sequence[Sums] | None
    reasons: Mapping[Role, NotComputable] = field(default_factory=dict)
    nonfinite: tuple[int, int] = (0, 0)
    differing: tuple[str, ...] = ()
    absent: bool = False
    unrecorded: bool = False
    explained: Explained | None = None

    @cached_property
    def local(self) -> LocalError | None:
        """The local error; None where it cannot be computed."""
        return None if self.sums is None else local_error(self.sums)

    @property
    def comparable(self) -> bool:
        """Whether both sides have finite values of one shape."""
        a, b = self.reference, self.subject
        return a is not None and b is not None and a.shape == b.shape and self.nonfinite == (0, 0)

    @property
    def without_inputs(self) -> bool:
        """Whether there is nothing to compute the stage from; where a side lacks a weight besides, that is a fault."""
        reasons = self.reasons.values()
        return bool(reasons) and all(isinstance(reason, InputMissing) for reason in reasons)

    @property
    def faulty(self) -> bool:
        """Whether the fault is in this stage itself."""
        if self.absent or self.without_inputs or (self.unrecorded and not self.reasons):
            return False
        if self.reasons or self.differing or bool(self.nonfinite[0]) != bool(self.nonfinite[1]):
            return True
        if self.nonfinite != (0, 0):
            return False  # NaN on both sides: nothing here says whose
        if not self.comparable or self.local is None:
            return True
        return self.local.worst_ratio > 1

    def with_values(self, reference: Value, subject: Value) -> Outcome:
        """The same judgement of values that are held in another way; what is one for both sides stays one."""
        shared = self.subject is self.reference
        return replace(
            self,
            reference=None if self.reference is None else reference,
            subject=None if self.subject is None else reference if shared else subject,
        )


def folded(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a stage from those of all its heads, whose values are the whole stage's already."""
    known = [outcome.sums for outcome in outcomes if outcome.sums is not None]
    return replace(
        outcomes[0],
        sums=[part for sums in known for part in sums] if len(known) == len(outcomes) else None,
        nonfinite=(sum(o.nonfinite[0] for o in outcomes), sum(o.nonfinite[1] for o in outcomes)),
    )


@dataclass(frozen=True)
class Computed:
    """One stage of both sides, not yet judged.

    Args:
        reference: the reference's value.
        local_subject: the subject's from the reference's inputs.
        subject: the subject's from its own.
        same: whether the reference's serves for `local_subject`.
        reasons: why a side cannot compute the stage.
    """

    reference: Tensor | None
    local_subject: Tensor | None
    subject: Tensor | None
    same: bool
    reasons: Mapping[Role, NotComputable]


def side_by_side(parts: Sequence[Computed]) -> Computed:
    """A stage of all heads, [T, N·D], from some at a time."""
    first = parts[0]
    a = _joined([part.reference for part in parts])
    local_b = a if first.local_subject is first.reference else _joined([part.local_subject for part in parts])
    b = local_b if first.subject is first.local_subject else _joined([part.subject for part in parts])
    return replace(first, reference=a, local_subject=local_b, subject=b)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known, dim=-1) if len(known) == len(parts) else None
