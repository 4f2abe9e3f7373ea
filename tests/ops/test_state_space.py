"""Mamba's states against plain loops in float64, and carried from chunk to chunk against all tokens at once."""

from __future__ import annotations

import math

import torch

from fixtures.state_steps import GROUPS, HEADS, INNER, PER_HEAD, STATE, T, agree, drawn, step
from rosetta.ops.state_space import SelectiveScan, StateSpace


def test_mamba2_state() -> None:
    mixed = drawn(T, INNER + 2 * GROUPS * STATE)
    projected = drawn(T, 2 * INNER + 2 * GROUPS * STATE + HEADS, seed=1)
    a, d, bias = -drawn(HEADS, 1, seed=2).exp(), drawn(HEADS, 1, seed=3), drawn(HEADS, seed=4)
    expected = torch.zeros(T, HEADS, PER_HEAD, dtype=torch.float64)
    for h in range(HEADS):
        group, state = h // (HEADS // GROUPS), torch.zeros(PER_HEAD, STATE, dtype=torch.float64)
        for t in range(T):
            x = mixed[t, h * PER_HEAD : (h + 1) * PER_HEAD]
            write = mixed[t, INNER + group * STATE : INNER + (group + 1) * STATE]
            first = INNER + GROUPS * STATE + group * STATE
            read = mixed[t, first : first + STATE]
            dt = math.log1p(math.exp(projected[t, -HEADS + h].item() + bias[h].item()))
            state = state * math.exp(dt * a[h, 0].item()) + dt * torch.outer(x, write)
            expected[t, h] = state @ read + d[h, 0] * x
    weights = {"ssm_a": a, "ssm_d": d, "ssm_dt.bias": bias}
    agree(StateSpace(), weights, expected, mixed, projected)


def test_time_steps_are_held_between_limits() -> None:
    mixed = drawn(T, INNER + 2 * GROUPS * STATE)
    projected = drawn(T, 2 * INNER + 2 * GROUPS * STATE + HEADS, seed=1)
    weights = {
        "ssm_a": -torch.ones(HEADS, 1, dtype=torch.float64),
        "ssm_d": torch.zeros(HEADS, 1, dtype=torch.float64),
        "ssm_dt.bias": torch.zeros(HEADS, dtype=torch.float64),
    }
    held = step(weights, **{"ssm.time_step_min": 0.25, "ssm.time_step_max": 0.25})
    fixed = projected.clone()
    fixed[:, -HEADS:] = math.log(math.expm1(0.25))  # softplus of it is 0.25
    same = StateSpace().compute(step(weights), mixed, fixed)
    assert (StateSpace().compute(held, mixed, projected) - same).abs().max() < 1e-12


def test_mamba_state() -> None:
    x, dt = drawn(T, INNER), drawn(T, INNER, seed=1)
    write, read = drawn(T, STATE, seed=2), drawn(T, STATE, seed=3)
    a, d = -drawn(INNER, STATE, seed=4).exp(), drawn(INNER, seed=5)
    expected = torch.zeros(T, INNER, dtype=torch.float64)
    for c in range(INNER):
        state = [0.0] * STATE
        for t in range(T):
            step_size = math.log1p(math.exp(dt[t, c].item()))
            total = d[c].item() * x[t, c].item()
            for n in range(STATE):
                state[n] = state[n] * math.exp(step_size * a[c, n].item())
                state[n] += step_size * write[t, n].item() * x[t, c].item()
                total += state[n] * read[t, n].item()
            expected[t, c] = total
    agree(SelectiveScan(), {"ssm_a": a, "ssm_d": d}, expected, x, dt, write, read)
