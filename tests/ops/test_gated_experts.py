"""The gate of gpt-oss and the router of Phi-3.5-MoE, against transformers' own."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from fixtures.steps import HeldStep
from rosetta.ops.clamped_gate import ClampedGate
from rosetta.ops.sparse_mixer import SparseMixer

pytestmark = pytest.mark.requires_transformers
EXPERTS, TOKENS = 6, 50


def test_the_gate_is_that_of_gpt_oss() -> None:
    """Beyond the limit too, on either side."""
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

    draw = torch.Generator().manual_seed(0)
    gate, up = (4 * torch.randn(TOKENS, 8, generator=draw).double() for _ in range(2))
    settings = {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}
    found = ClampedGate().compute(HeldStep(settings, {}), gate, up)

    class Constants:
        alpha, limit = 1.702, 7.0

    by_turns = torch.stack([gate, up], dim=-1).flatten(-2)
    expected = GptOssExperts._apply_gate(cast(Any, Constants()), by_turns)
    torch.testing.assert_close(found, expected)


def test_the_mixer_is_that_of_phimoe() -> None:
    from transformers import PhimoeConfig
    from transformers.models.phimoe.modeling_phimoe import sparsemixer

    near = PhimoeConfig().router_jitter_noise
    scores = torch.randn(TOKENS, EXPERTS, generator=torch.Generator().manual_seed(1)).double()
    settings = {"expert_used_count": 2, "router_jitter_noise": near, "expert_count": EXPERTS}
    settings |= {"embedding_length": EXPERTS, "gating": 101}
    s = HeldStep(settings, {"ffn_gate_inp.weight": torch.eye(EXPERTS).double()})
    found = SparseMixer(gating="gating").compute(s, scores)
    weights, chosen = sparsemixer(scores, near, False)
    expected = torch.zeros_like(scores).scatter(1, chosen, weights)
    torch.testing.assert_close(found, expected)
