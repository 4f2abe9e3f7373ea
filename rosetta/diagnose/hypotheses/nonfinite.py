"""NaN or Inf among the weights (`value.nonfinite`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.edits import Mask
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import taken_from_other
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.nonfinite",
        means="There is NaN or Inf among the weights.",
        why="A value overflows F16, a block's scale is divided by zero, or bytes are decoded as what they are not.",
        repair="The values are taken from the reference, and the proof says how many. Export the tensor again.",
        order=70,
    ),
)

TAKES_FROM_REFERENCE = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values where an accused weight is not finite."""
    said, cause = "is NaN or Inf in {where}", "a scale or a conversion overflowed"
    yield from taken_from_other(fault, "value.nonfinite", _nonfinite, said, cause)


def _nonfinite(weight: Weight, other: Weight) -> Mask:
    return lambda start, values: ~torch.isfinite(values)
