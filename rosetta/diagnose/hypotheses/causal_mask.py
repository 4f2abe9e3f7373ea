"""Tokens that see others behind them, or not themselves (`config.causal_mask`), read off a recorded run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.finding_kind import FindingKind
from rosetta.ops.attention import Scores
from rosetta.ops.edit import OpEdit

KINDS = (
    FindingKind(
        "config.causal_mask",
        means="Tokens see others that come behind them, or do not see themselves.",
        why="The mask is one position off, is not made at all (an attention function without a mask function of its "
        "name), or is made for a batch that is padded on the other side.",
        repair="The scores are computed with tokens that see as far as recorded. Mend the mask in the runtime.",
    ),
)


def propose(fault: Fault) -> Iterator[Proposal]:
    """A mask that ends as far ahead of each token as the recorded scores do."""
    scores = fault.recorded_value  # [N, T, T]
    if not isinstance(fault.node.op, Scores) or scores is None or scores.dim() != 3:
        return
    ahead = _ahead(scores)
    if not ahead:
        return
    own, other = "each token sees itself and those before it", _in_words(ahead, scores.shape[-1])
    yield Proposal(
        kind="config.causal_mask",
        role="subject",
        repair=Repair(operations=(OpEdit(Scores, (("ahead", ahead),)),)),
        message=f"the causal mask is otherwise: {own}; in what was recorded {other}",
        recommendation="mend the mask in what was recorded",
        key="attention.causal_mask",
        declared=own,
        actual=other,
    )


def _ahead(scores: Tensor) -> int:
    """How many tokens behind its own any token sees, −1 where none sees itself; 0 where the mask is as it should be."""
    tokens = scores.shape[-1]
    seen = (scores > 0).any(0)  # [T, T]
    place = torch.arange(tokens)
    last = torch.where(seen, place, -1).amax(-1) - place  # of each token, beside its own place
    return int(last.max()) if bool((last[1:] >= 0).any()) or tokens < 2 else int(last[1:].max())


def _in_words(ahead: int, tokens: int) -> str:
    if ahead < 0:
        return "none but the first sees itself"
    return "tokens see all of the text" if ahead >= tokens - 1 else f"tokens see {ahead} behind them"
