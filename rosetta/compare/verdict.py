"""From stages to one word: match, drift, divergent or inconclusive, and the sentence that says why."""

from __future__ import annotations

from rosetta.compare.lockstep import LockstepResult
from rosetta.compare.results import Compared, FirstDivergence, StageDiff, TokensDiff, Verdict


def verdict(
    tokens: TokensDiff, result: LockstepResult, compared: Compared, both_have_weights: bool
) -> tuple[Verdict, str]:
    """The verdict and its reason.

    Args:
        tokens: the two tokenisations.
        result: the lockstep run.
        compared: how much was compared; nothing compared is never a pass.
        both_have_weights: whether there were weights to compare on both sides.
    """
    if not tokens.match:
        return "divergent", f"the token ids differ from position {tokens.first_mismatch} on"
    if result.faulty_over:
        return "divergent", f"the fault is first at {_first(result)}"
    if result.brought_back:
        return (
            "divergent",
            f"a repair brings {result.brought_back[0]} back, the fault is first at {_first(result)}",
        )
    if not compared.stages:
        return "inconclusive", "no stage could be compared"
    if both_have_weights and not compared.weights:
        return "inconclusive", "no weight could be compared"
    blind = next((s.name for s in result.stages if s.nonfinite.left and s.nonfinite.right), None)
    if blind is not None:
        return "drift", f"{blind} and later stages cannot be compared: both sides have NaN or Inf"
    if result.over_threshold:
        return (
            "drift",
            f"{result.over_threshold[0]} and later stages differ by no more than the dtypes explain",
        )
    return "match", f"all {compared.stages} stages agree"


def first_divergence(word: Verdict, tokens: TokensDiff, stages: list[StageDiff]) -> FirstDivergence | None:
    """The first faulty stage of a divergent pair (`tokens` when the ids differ)."""
    if word != "divergent":
        return None
    if not tokens.match:
        position = tokens.first_mismatch
        return FirstDivergence(name="tokens", layer=None, op="tokens", token=position, index=None)
    stage = next((stage for stage in stages if stage.status == "faulty"), None)
    if stage is None:
        return None
    index = stage.worst.index if stage.worst else None
    token = None if index is None else index[1 if stage.op == "attn_scores" else 0]
    return FirstDivergence(name=stage.name, layer=stage.layer, op=stage.op, token=token, index=index)


def _first(result: LockstepResult) -> str:
    return next((stage.name for stage in result.stages if stage.status == "faulty"), "a stage")
