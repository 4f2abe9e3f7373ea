"""How far experts are apart: how many tokens each side sends to one, and the difference of its weight or its values.

Letters: T = tokens, E = experts, k = chosen ones, F = features.
"""

from __future__ import annotations

from torch import Tensor

from rosetta.compare.results import ByExpert
from rosetta.compare.stage_measures import SeenStage
from rosetta.ops.experts import chosen_of

FIELD = "by_expert"
ROUTER = "ffn_router"
OF_EXPERTS = frozenset({"ffn_gate", "ffn_up", "ffn_act"})
"""Stages that each chosen expert has values of, [T, k, F]."""


def measured(seen: SeenStage) -> ByExpert | None:
    """Of the router's stage and of those of the experts themselves; None of any other."""
    a, b = seen.left, seen.right
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return None
    if seen.op == ROUTER and a.dim() == 2:
        return _said((a, b), (a - b).abs().amax(0))
    if seen.op in OF_EXPERTS and a.dim() == 3 and seen.routing is not None:
        return _said(seen.routing, _largest(a, b, *seen.routing))
    return None


def _said(routing: tuple[Tensor, Tensor], largest: Tensor) -> ByExpert:
    left, right = ((weights != 0).sum(0).tolist() for weights in routing)
    return ByExpert(left=left, right=right, max_diff=largest.tolist())


def _largest(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
    """The largest difference of each expert over the tokens that both sides send to it, [E]."""
    left, right = (chosen_of(weights, a.shape[1]) for weights in (of_a, of_b))  # [T, k], as the values lie
    same = left[:, :, None] == right[:, None, :]
    place = same.int().argmax(-1)  # of the left's expert on the right
    gap = (a - b.gather(1, place[..., None].expand(-1, -1, b.shape[-1]))).abs().amax(-1)  # [T, k]
    both = same.any(-1) & (of_a.gather(1, left) != 0) & (of_b.gather(1, left) != 0)
    largest = gap.new_zeros(of_a.shape[1])
    return largest.scatter_reduce_(0, left[both], gap[both], "amax")
