"""Experts in one order for two runs: who was chosen, not in which order of choice."""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.ops.experts import chosen_of

OF_EXPERTS = frozenset({"ffn_gate", "ffn_up", "ffn_act"})
"""Stages that each chosen expert has a value of."""


def by_expert(x: Tensor, routing: Tensor) -> Tensor:
    """What the chosen experts computed, by ascending number of the expert.

    Args:
        x: [T, chosen, F].
        routing: number and weight of the chosen experts, [T, chosen, 2].
    """
    order = routing[..., 0].argsort(-1)  # [T, chosen]
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))


def expert_weights(routing: Tensor, experts: int) -> Tensor:
    """The weight of each expert, 0 where it was not chosen: [T, experts].

    Args:
        routing: number and weight of the chosen experts, [T, chosen, 2].
        experts: how many there are at least.

    >>> import torch
    >>> expert_weights(torch.tensor([[[2.0, 0.75], [0.0, 0.25]]]), 3).tolist()
    [[0.25, 0.0, 0.75]]
    """
    out = routing.new_zeros(len(routing), experts)
    return out.scatter(1, routing[..., 0].long(), routing[..., 1])


def by_weight(x: Tensor, routing: Tensor, weights: Tensor) -> Tensor:
    """What the chosen experts computed, in the order of what they count for: our own.

    Args:
        x: [T, chosen, F].
        routing: number and weight of the chosen experts, [T, chosen, 2].
        weights: of all experts, see `expert_weights`.
    """
    wanted = chosen_of(weights, routing.shape[1])  # [T, chosen]
    order = (routing[:, None, :, 0] == wanted[..., None]).int().argmax(-1)
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))


def chosen_experts(weights: Tensor, count: int | None) -> Tensor:
    """Number and weight of the chosen experts, in the order of what they count for: [T, chosen, 2].

    Args:
        weights: of all experts, see `expert_weights`.
        count: how many are chosen of each token; None: as many as any token gives a weight.
    """
    most = int((weights != 0).sum(-1).max()) if count is None else count
    chosen = chosen_of(weights, most)
    return torch.stack([chosen.to(weights.dtype), weights.gather(1, chosen)], -1)
