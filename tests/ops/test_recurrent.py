"""Convolutions and gated norms against plain loops in float64, and from chunk to chunk."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.state_steps import GROUPS, HEADS, INNER, PER_HEAD, STATE, T, agree, drawn
from rosetta.ops.recurrent import Convolution, GatedNorm


def test_convolution_sums_the_last_tokens() -> None:
    channels = INNER + 2 * GROUPS * STATE
    x, weight, bias = drawn(T, INNER + channels), drawn(channels, 4, seed=1), drawn(channels, seed=2)
    expected = torch.zeros(T, channels, dtype=torch.float64)
    for t in range(T):
        for c in range(channels):
            total = bias[c].item()
            for j in range(4):
                if t - 3 + j >= 0:
                    total += weight[c, j].item() * x[t - 3 + j, INNER + c].item()
            expected[t, c] = total / (1 + math.exp(-total))
    weights = {"ssm_conv1d.weight": weight, "ssm_conv1d.bias": bias}
    agree(Convolution(first="ssm.inner_size"), weights, expected, x)


def test_short_convolution_is_of_what_passes_the_gate() -> None:
    x, weight = drawn(T, 3 * INNER), drawn(INNER, 4, seed=1)
    gated = x[:, 2 * INNER :] * x[:, :INNER]
    padded = torch.nn.functional.pad(gated.T[None], (3, 0))
    expected = torch.nn.functional.conv1d(padded, weight[:, None], groups=INNER)[0].T
    op = Convolution("c", channels="ssm.inner_size", first=(2, "ssm.inner_size"), gate=0, activated=False)
    agree(op, {"c.weight": weight}, expected, x)


@pytest.mark.parametrize("gate_first", [False, True])
def test_norm_and_gate_in_either_order(gate_first: bool) -> None:
    x, gate, weight = drawn(T, HEADS, PER_HEAD), drawn(T, INNER, seed=1), drawn(HEADS, PER_HEAD, seed=2)
    opened = (gate * gate.sigmoid()).view(T, HEADS, PER_HEAD)
    y = x * opened if gate_first else x
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    expected = y if gate_first else y * opened
    op = GatedNorm("n", "epsilon", width=(HEADS, PER_HEAD), gate_first=gate_first)
    agree(op, {"n.weight": weight}, expected, x, gate)
