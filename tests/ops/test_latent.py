"""Latent attention against torch in float64: keys of all heads, the latent's norm, the rotation of the last dims."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fixtures.steps import Exact, HeldStep
from rosetta.ops.latent import NOPE, LatentKeys, LatentNorm
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF, Rotary

TOKENS, HEADS, LATENT, OWN, TURNED = 6, 3, 8, 4, 4
SETTINGS: dict[str, Any] = {
    "attention.head_count": HEADS,
    "attention.kv_lora_rank": LATENT,
    NOPE: OWN,
    "epsilon": 1e-5,
    "rope.dimension_count": TURNED,
    "rope.freq_base": 100.0,
    "rope.scaling": None,
}


def step(dtype: torch.dtype) -> HeldStep:
    draw = torch.Generator().manual_seed(1)
    tensors = {f"attn_k_b.{h}.weight": torch.randn(OWN, LATENT, generator=draw) for h in range(HEADS)}
    tensors["attn_kv_a_norm.weight"] = torch.randn(LATENT, generator=draw)
    return HeldStep(SETTINGS, {name: value.to(dtype) for name, value in tensors.items()})


def whole(dtype: torch.dtype) -> torch.Tensor:
    drawn = torch.randn(TOKENS, LATENT + TURNED, generator=torch.Generator().manual_seed(2))
    return drawn.to(dtype)


NORM = LatentNorm("attn_kv_a_norm", "epsilon", width=("attention.kv_lora_rank",), kind="rms", bias=False)


def test_the_norm_is_of_the_latent_alone() -> None:
    x, s = whole(torch.float64), step(torch.float64)
    expected = torch.nn.functional.rms_norm(x[:, :LATENT], (LATENT,), s.weight("attn_kv_a_norm.weight"), 1e-5)
    torch.testing.assert_close(NORM.compute(s, x), expected)


def test_keys_are_each_heads_own_part_and_the_one_that_all_share() -> None:
    x, s = whole(torch.float64), step(torch.float64)
    latent = x[:, :LATENT]
    found = LatentKeys().compute(s, latent, x)
    assert found.shape == (TOKENS, HEADS, OWN + TURNED)
    for head in range(HEADS):
        expected = torch.einsum("tl,ul->tu", latent, s.weight(f"attn_k_b.{head}.weight"))
        torch.testing.assert_close(found[:, head, :OWN], expected)
        torch.testing.assert_close(found[:, head, OWN:], x[:, LATENT:])


def test_keys_in_float32_stray_by_no_more_than_predicted() -> None:
    s, x = step(torch.float32), whole(torch.float32)
    y = LatentKeys().compute(s, x[:, :LATENT], x)
    exact = LatentKeys().compute(step(torch.float64), x[:, :LATENT].double(), x.double())
    sigma = LatentKeys().spread(s, Exact(), y, x[:, :LATENT], x).sigma
    assert ((y - exact).abs() <= 5 * sigma + 1e-12).all()
    assert (sigma[..., :OWN] > 0).all(), "the heads' own part is rounded"
    assert (sigma[..., OWN:] == 0).all(), "what all share is a copy"


@pytest.mark.parametrize("order", [INTERLEAVED, SPLIT_HALF])
def test_the_last_dims_are_turned_as_the_first_ones_of_a_head_of_their_own(order: int) -> None:
    x = torch.randn(TOKENS, HEADS, OWN + TURNED, generator=torch.Generator().manual_seed(4)).double()
    s = step(torch.float64)
    found = Rotary(order, last=True).compute(s, x)
    torch.testing.assert_close(found[..., :OWN], x[..., :OWN])
    torch.testing.assert_close(found[..., OWN:], Rotary(order).compute(s, x[..., OWN:]))
    assert not torch.allclose(found[1:, :, OWN:], x[1:, :, OWN:])
