"""Delta rules against plain loops in float64, and carried from chunk to chunk against all tokens at once."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fixtures.state_steps import GROUPS, HEADS, INNER, PER_HEAD, STATE, T, agree, drawn
from rosetta.ops.delta_rule import ChannelDelta, GatedDelta


def delta_loop(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    """One head's delta rule, written with matrices: S ← (D S) + β k (v − kᵀ D S)ᵀ."""
    state, y = torch.zeros(q.shape[1], v.shape[1], dtype=torch.float64), []
    for t in range(len(q)):
        q_t, k_t = q[t] / (q[t].square().sum() + 1e-6).sqrt(), k[t] / (k[t].square().sum() + 1e-6).sqrt()
        state = torch.diag(decay[t]) @ state
        state = state + beta[t] * torch.outer(k_t, v[t] - k_t @ state)
        y.append(q_t @ state / math.sqrt(q.shape[1]))
    return torch.stack(y)


@pytest.mark.parametrize("tiled", [False, True])
def test_gated_delta_net(tiled: bool) -> None:
    keys = GROUPS * STATE
    mixed, forget, take = drawn(T, 2 * keys + INNER), drawn(T, HEADS, seed=1), drawn(T, HEADS, seed=2)
    a, bias = -drawn(HEADS, seed=3).exp(), drawn(HEADS, seed=4)
    expected = torch.zeros(T, HEADS, PER_HEAD, dtype=torch.float64)
    for h in range(HEADS):
        key = h % GROUPS if tiled else h // (HEADS // GROUPS)
        q, k = (mixed[:, start + key * STATE :][:, :STATE] for start in (0, keys))
        v = mixed[:, 2 * keys + h * PER_HEAD :][:, :PER_HEAD]
        decay = (a[h] * torch.log1p((forget[:, h] + bias[h]).exp())).exp()
        expected[:, h] = delta_loop(q, k, v, decay[:, None].expand(-1, STATE), take[:, h].sigmoid())
    each = HEADS // GROUPS
    both = torch.cat(
        [part[:, g * each : (g + 1) * each] for g in range(GROUPS) for part in (take, forget)], dim=1
    )
    gates = (forget, take) if tiled else (both,)
    agree(GatedDelta(tiled), {"ssm_a": a, "ssm_dt.bias": bias}, expected, mixed, *gates)


def test_kimi_delta_attention_forgets_by_channel() -> None:
    q, k, v, forget = (drawn(T, HEADS * STATE, seed=seed) for seed in range(4))
    take, a, bias = drawn(T, HEADS, seed=5), -drawn(HEADS, 1, seed=6).exp(), drawn(HEADS * STATE, seed=7)
    expected = torch.zeros(T, HEADS, STATE, dtype=torch.float64)
    for h in range(HEADS):
        own = slice(h * STATE, (h + 1) * STATE)
        decay = (a[h, 0] * torch.log1p((forget[:, own] + bias[own]).exp())).exp()
        expected[:, h] = delta_loop(q[:, own], k[:, own], v[:, own], decay, take[:, h].sigmoid())
    op = ChannelDelta("heads", "kda.head_dim")
    agree(op, {"ssm_a": a, "ssm_dt.bias": bias}, expected, q, k, v, forget, take)
