"""Mixtures of experts against a loop over tokens and experts in float64, and what a near tie is forgiven."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures.steps import Exact, HeldStep
from rosetta.ops.experts import (
    NEAR_TIE,
    SIGMOID,
    SOFTMAX,
    SOFTMAX_OF_CHOSEN,
    SQRT_SOFTPLUS,
    ExpertLinear,
    ExpertSum,
    Router,
)

TOKENS, INPUTS, WIDTH, EXPERTS, USED = 7, 6, 5, 8, 3
SETTINGS: dict[str, Any] = {
    "embedding_length": INPUTS,
    "width": WIDTH,
    "expert_count": EXPERTS,
    "expert_used_count": USED,
    "expert_group_count": 4,
    "expert_group_used_count": 2,
    "expert_group_best": 2,
    "expert_weights_scale": 2.5,
    "expert_softcap": 0.7,
}
GROUPS = {"groups": "expert_group_count", "groups_used": "expert_group_used_count"}


def tensors() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    found = {
        "ffn_gate_inp.weight": torch.randn(EXPERTS, INPUTS, generator=draw),
        "ffn_gate_inp.bias": torch.randn(EXPERTS, generator=draw),
        "exp_probs_b.bias": torch.randn(EXPERTS, generator=draw),
    }
    for e in range(EXPERTS):
        found[f"ffn_up_exps.{e}.weight"] = torch.randn(WIDTH, INPUTS, generator=draw)
        found[f"ffn_down_exps.{e}.weight"] = torch.randn(INPUTS, WIDTH, generator=draw)
    found["ffn_up_exps.2.bias"] = torch.randn(WIDTH, generator=draw)
    return {name: value.double() for name, value in found.items()}


def step(**settings: Any) -> HeldStep:
    return HeldStep(SETTINGS | settings, tensors())


def inputs() -> Tensor:
    return torch.randn(TOKENS, INPUTS, generator=torch.Generator().manual_seed(5)).double()


GATE = {
    SIGMOID: lambda x, _: 1 / (1 + math.exp(-x)),
    SOFTMAX: lambda x, all_scores: math.exp(x) / sum(math.exp(y) for y in all_scores),
    SOFTMAX_OF_CHOSEN: lambda x, _: x,
    SQRT_SOFTPLUS: lambda x, _: math.sqrt(math.log1p(math.exp(x))),
}


def by_definition(router: Router, x: Tensor, s: HeldStep) -> Tensor:
    """The weights, token by token, expert by expert."""
    gating, found = int(router.gating), torch.zeros(len(x), EXPERTS).double()
    for t, token in enumerate(x):
        scores = s.tensors["ffn_gate_inp.weight"] @ token + s.tensors["ffn_gate_inp.bias"]
        if router.softcap:
            scores = SETTINGS["expert_softcap"] * torch.tanh(scores / SETTINGS["expert_softcap"])
        shares = [GATE[gating](score, scores.tolist()) for score in scores.tolist()]
        order = list(shares)
        if router.selection_bias:
            order = [a + b for a, b in zip(shares, s.tensors["exp_probs_b.bias"].tolist(), strict=True)]
        allowed = set(range(EXPERTS))
        if router.groups:
            size = EXPERTS // s["expert_group_count"]
            groups = [range(start, start + size) for start in range(0, EXPERTS, size)]
            judged = [
                sum(sorted((order[e] for e in g), reverse=True)[: s["expert_group_best"]]) for g in groups
            ]
            best = sorted(range(len(groups)), key=lambda g: -judged[g])[: s["expert_group_used_count"]]
            allowed = {e for g in best for e in groups[g]}
        chosen = sorted(allowed, key=lambda e: -order[e])[:USED]
        weights = {e: shares[e] for e in chosen}
        if gating == SOFTMAX_OF_CHOSEN:
            total = sum(math.exp(weights[e]) for e in chosen)
            weights = {e: math.exp(weights[e]) / total for e in chosen}
        elif router.normalised:
            total = sum(weights.values())
            weights = {e: weight / total for e, weight in weights.items()}
        for e, weight in weights.items():
            found[t, e] = weight * (SETTINGS["expert_weights_scale"] if router.scale else 1)
    return found


@pytest.mark.parametrize("gating", list(GATE))
@pytest.mark.parametrize(
    "options",
    [
        {"normalised": False},
        {"normalised": True},
        {"selection_bias": "exp_probs_b"},
        {"scale": "expert_weights_scale", "normalised": False},
        {"softcap": "expert_softcap"},
        {**GROUPS},
        {**GROUPS, "selection_bias": "exp_probs_b", "scale": "expert_weights_scale"},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("best", [1, 2])
def test_a_router_weighs_as_a_loop_does(gating: int, options: dict[str, Any], best: int) -> None:
    router, s = Router(gating=gating, **options), step(expert_group_best=best)
    torch.testing.assert_close(router.compute(s, inputs()), by_definition(router, inputs(), s))


def test_experts_are_chosen_by_scores_that_a_sigmoid_cannot_tell_apart() -> None:
    s = step(expert_used_count=1)
    s.tensors = {
        **s.tensors,
        "ffn_gate_inp.weight": torch.zeros(EXPERTS, INPUTS),
        "ffn_gate_inp.bias": torch.arange(40.0, 40.0 + EXPERTS),  # all of them 1 in float32
    }
    weights = Router(gating=SIGMOID, normalised=False, by_scores=True).compute(s, inputs().float())
    assert weights.argmax(-1).tolist() == [EXPERTS - 1] * TOKENS


@pytest.mark.parametrize("weighed", [False, True])
def test_experts_compute_as_a_loop_does(weighed: bool) -> None:
    """Each chosen expert's product, in the order of what it counts for, and their weighed sum."""
    router, s, x = Router(), step(), inputs()
    weights = router.compute(s, x)
    up = ExpertLinear("ffn_up_exps", router, "width", "embedding_length", weighed=weighed)
    down = ExpertSum("ffn_down_exps", router, "embedding_length", "width", weighed=not weighed)
    hidden = up.compute(s, x, weights)
    total = down.compute(s, hidden, weights, torch.ones(TOKENS, INPUTS).double())
    for t in range(TOKENS):
        order = sorted(range(EXPERTS), key=lambda e: -float(weights[t, e]))[:USED]
        expected = torch.ones(INPUTS).double()  # what the shared expert gives
        for place, e in enumerate(order):
            share = weights[t, e]
            product = s.tensors[f"ffn_up_exps.{e}.weight"] @ (x[t] * share if weighed else x[t])
            product = product + s.tensors.get(f"ffn_up_exps.{e}.bias", 0)
            torch.testing.assert_close(hidden[t, place], product)
            expected = expected + (s.tensors[f"ffn_down_exps.{e}.weight"] @ product) * (
                1 if weighed else share
            )
        torch.testing.assert_close(total[t], expected)


def scored(scores: list[float]) -> HeldStep:
    """A step whose router gives every token these scores."""
    s = step(expert_used_count=2)
    s.tensors = {
        "ffn_gate_inp.weight": torch.full((EXPERTS, INPUTS), 0.01),
        "ffn_gate_inp.bias": torch.tensor(scores),
    }
    return s


FAR = [9.0, 8.0, 1.0, 0.0, 3.0, 2.0, 0.5, 0.2]
TIED = [9.0, 3.0, 1.0, 0.0, 3.0 - 1e-7, 2.0, 0.5, 0.2]  # the second and the fifth
TIED_GROUPS = [9.0, 1.0, 6.0, 2.0, 5.0, 3.0 - 1e-7, 0.5, 0.2]  # the second pair and the third, by their sum


@pytest.mark.parametrize(
    ("scores", "options", "forgiven"),
    [(FAR, {}, False), (TIED, {}, True), (FAR, GROUPS, False), (TIED_GROUPS, GROUPS, True)],
)
def test_a_near_tie_is_no_fault(scores: list[float], options: dict[str, Any], forgiven: bool) -> None:
    """Where another expert, or group, may be chosen, a weight may be off by as much as weights are."""
    router, s, x = Router(gating=SOFTMAX_OF_CHOSEN, **options), scored(scores), inputs().float().abs()
    y = router.compute(s, x)
    sigma = router.spread(s, Exact(), y, x).sigma
    assert bool((sigma * NEAR_TIE > 0.5).any()) is forgiven


def test_experts_that_were_chosen_by_something_else_are_no_near_tie() -> None:
    """Of a recorded routing in which the third and the last count, where the first two are far ahead."""
    router, s, x = Router(gating=SOFTMAX_OF_CHOSEN), scored(FAR), inputs().float().abs()
    y = torch.zeros(len(x), EXPERTS)
    y[:, [2, 7]] = 0.5
    assert not bool((router.spread(s, Exact(), y, x).sigma * NEAR_TIE > 0.25).any())


def test_the_routing_that_is_given_is_followed() -> None:
    """Of two experts, say, where the settings of this side speak of three."""
    router, x = Router(), inputs()
    given = router.compute(step(expert_used_count=2), x)
    up = ExpertLinear("ffn_up_exps", router, "width", "embedding_length")
    down = ExpertSum("ffn_down_exps", router, "embedding_length", "width")
    hidden = up.compute(step(), x, given)
    assert hidden.shape == (TOKENS, 2, WIDTH)
    expected = up.compute(step(expert_used_count=2), x, given)
    torch.testing.assert_close(hidden, expected)
    assert down.compute(step(), hidden, given).shape == (TOKENS, INPUTS)


def test_each_experts_own_factor_counts_beside_its_weight_and_not_for_the_order() -> None:
    router, x = (
        Router(),
        torch.randn(TOKENS, USED, WIDTH, generator=torch.Generator().manual_seed(7)).double(),
    )
    scale = torch.linspace(-3, 3, EXPERTS).double()
    s = HeldStep(SETTINGS, tensors() | {"ffn_down_exps.scale": scale})
    weights = router.compute(s, inputs())
    plain = ExpertSum("ffn_down_exps", router, rows=INPUTS, columns="width")
    scaled = ExpertSum("ffn_down_exps", router, rows=INPUTS, columns="width", scale="ffn_down_exps.scale")
    expected = torch.zeros(TOKENS, INPUTS).double()
    for token, row in enumerate(weights):
        for place, expert in enumerate(row.argsort(descending=True)[:USED].tolist()):
            matrix = tensors()[f"ffn_down_exps.{expert}.weight"]
            expected[token] += scale[expert] * row[expert] * (matrix @ x[token, place])
    assert torch.allclose(scaled.compute(s, x, weights), expected)
    assert torch.equal(scaled.compute(step(), x, weights), plain.compute(step(), x, weights))
