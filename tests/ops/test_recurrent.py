"""States against plain loops in float64, and a state carried from chunk to chunk against all tokens at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from rosetta.ops.measured import measured
from rosetta.ops.op import Chunk, Op, Step
from rosetta.ops.recurrent import (
    ChannelDelta,
    Convolution,
    GatedDelta,
    GatedNorm,
    SelectiveScan,
    StateSpace,
)
from rosetta.weight_cache import WeightCache

T, GROUPS, HEADS, STATE, PER_HEAD = 9, 2, 4, 3, 5
INNER = HEADS * PER_HEAD
SETTINGS: Mapping[str, Any] = {
    "ssm.inner_size": INNER,
    "ssm.state_size": STATE,
    "ssm.group_count": GROUPS,
    "ssm.time_step_rank": HEADS,
    "ssm.conv_kernel": 4,
    "ssm.time_step_min": 0.0,
    "ssm.time_step_max": 0.0,
    "ssm.l2_epsilon": 1e-6,
    "epsilon": 1e-5,
    "heads": HEADS,
    "kda.head_dim": STATE,
}


@dataclass
class Held:
    """A weight of given values."""

    name: str
    tensor: Tensor
    entry: Any = field(default_factory=lambda: type("Entry", (), {"room": None})())

    def __hash__(self) -> int:
        return hash(self.name)

    def values(self, device: str = "cpu") -> Tensor:
        return self.tensor


class Model:
    """A model of a few weights and settings."""

    def __init__(self, weights: Mapping[str, Tensor], settings: Mapping[str, Any] = SETTINGS) -> None:
        self.weights: Any = {name: Held(name, tensor) for name, tensor in weights.items()}
        self.settings = settings

    def contradiction(self, name: str) -> str | None:
        return None

    def settings_of(self, layer: int | None) -> Mapping[str, Any]:
        return self.settings


def drawn(*dims: int, seed: int = 0) -> Tensor:
    """Seeded normal values in float64."""
    return torch.randn(*dims, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step(weights: Mapping[str, Tensor], chunk: Chunk | None = None, **settings: Any) -> Step:
    """A step in float64."""
    cache = WeightCache(dtype=torch.float64)
    return Step(Model(weights, {**SETTINGS, **settings}), None, cache, chunk or Chunk())


def in_chunks(op: Op, weights: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    """Computed three tokens, one token, two tokens … at a time."""
    state: dict[str, Tensor] = {}
    parts, start = [], 0
    for count in (3, 1, 2, 1, 1, 1):
        some = [x[start : start + count] for x in inputs]
        parts.append(op.compute(step(weights, Chunk(start, state)), *some))
        start += count
    assert start == T
    return torch.cat(parts)


def agree(op: Op, weights: Mapping[str, Tensor], expected: Tensor, *inputs: Tensor) -> None:
    """The operation gives the expected values, at once and token by token."""
    whole = op.compute(step(weights), *inputs)
    assert (whole.reshape(expected.shape) - expected).abs().max() < 1e-12
    assert (in_chunks(op, weights, *inputs) - whole).abs().max() < 1e-9


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


@pytest.mark.parametrize("gate_first", [False, True])
def test_norm_and_gate_in_either_order(gate_first: bool) -> None:
    x, gate, weight = drawn(T, HEADS, PER_HEAD), drawn(T, INNER, seed=1), drawn(HEADS, PER_HEAD, seed=2)
    opened = (gate * gate.sigmoid()).view(T, HEADS, PER_HEAD)
    y = x * opened if gate_first else x
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    expected = y if gate_first else y * opened
    op = GatedNorm("n", "epsilon", width=(HEADS, PER_HEAD), gate_first=gate_first)
    agree(op, {"n.weight": weight}, expected, x, gate)


class Known:
    """Rounding of which one weight's is known."""

    dtype = torch.float32

    def __init__(self, name: str, variance: Tensor) -> None:
        self.name, self.of = name, variance

    def explains(self, name: str) -> bool:
        return name == self.name

    def variance(self, name: str, cache: Any, start: int = 0, stop: int | None = None) -> Tensor:
        return self.of

    def explained(self, name: str, cache: Any, x: Tensor, rows: tuple[int, int]) -> Tensor:
        return x.square() @ self.of[slice(*rows)].T

    def row_variance(self, name: str, rows: Any) -> list[Tensor]:
        return [self.of[list(rows)]]

    def agree(self, key: str) -> bool:
        return True


def test_measured_spread_is_that_of_many_moved_weights() -> None:
    """Of a convolution without activation the variance has a law: Σ x² σ²."""
    x, weight = drawn(T, INNER), drawn(INNER, 4, seed=1)
    op = Convolution("c", channels="ssm.inner_size", activated=False)
    sigma = 0.01 * (1 + torch.arange(INNER, dtype=torch.float64))[:, None].expand(INNER, 4)
    found = measured(op, step({"c.weight": weight}), Known("c.weight", sigma.square()), x, units=1.0)
    seen = torch.cat([x.new_zeros(3, INNER), x]).square()
    law = sum(seen[j : j + T] * sigma[:, j].square() for j in range(4))
    ratio = (found.explained.mean(0) / torch.as_tensor(law).mean(0)).sqrt()
    assert ratio.min() > 0.5
    assert ratio.mean() < 2
    assert 0 < found.floor.max() < 1e-5 * x.abs().max()
