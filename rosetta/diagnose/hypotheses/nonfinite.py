"""NaN or Inf among the weights (`value.nonfinite`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import taken_from_other

TAKES_FROM_REFERENCE = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values where an accused weight is not finite."""
    said, cause = "is NaN or Inf in {where}", "a scale or a conversion overflowed"
    yield from taken_from_other(fault, "value.nonfinite", _nonfinite, said, cause)


def _nonfinite(own: Tensor, theirs: Tensor, variance: Tensor) -> Tensor:
    return ~torch.isfinite(own)
