"""Alternating updates and sparse gates against transformers' Gemma 3n in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures.steps import HeldStep
from rosetta.architectures.gemma3n import GEMMA3N, routed
from rosetta.ops.altup import (
    AddToOthers,
    Corrected,
    MergedStreams,
    Predicted,
    SparseActivation,
    Stream,
    Streams,
)
from rosetta.ops.linear import Linear

IN_FLOAT32 = 1e-7  # transformers takes the router's tanh so
STREAMS, WIDTH, TOKENS, ACTIVE = 4, 16, 5, 1
SETTINGS = {
    "altup.num_inputs": STREAMS, "altup.active_idx": ACTIVE, "altup.router_scale": 1 / WIDTH,
    "embedding_length": WIDTH, "norm_type": "rms", "attention.layer_norm_rms_epsilon": 1e-6,
}  # fmt: skip


@pytest.fixture
def theirs() -> Any:
    pytest.importorskip("transformers")
    from transformers.models.gemma3n.configuration_gemma3n import Gemma3nTextConfig
    from transformers.models.gemma3n.modeling_gemma3n import Gemma3nTextAltUp

    torch.manual_seed(5)
    config = Gemma3nTextConfig(hidden_size=WIDTH, altup_num_inputs=STREAMS, altup_active_idx=ACTIVE)
    module = Gemma3nTextAltUp(config).double().eval()
    torch.nn.init.normal_(module.router_norm.weight)
    return module


def held(theirs: Any) -> HeldStep:
    tensors = {
        "altup_router_norm.weight": theirs.router_norm.weight,
        "altup_router.weight": theirs.modality_router.weight,
        "altup_predict_coef.weight": theirs.prediction_coefs.weight,
        "altup_correct_coef.weight": theirs.correction_coefs.weight,
    }
    return HeldStep(SETTINGS, {name: tensor.detach() for name, tensor in tensors.items()})


def draw(*dims: int) -> Tensor:
    return torch.randn(*dims, generator=torch.Generator().manual_seed(len(dims)), dtype=torch.float64)


@pytest.mark.requires_transformers
@torch.no_grad()
def test_streams_are_predicted_as_transformers_does(theirs: Any) -> None:
    s, x = held(theirs), draw(TOKENS, STREAMS, WIDTH)
    router = routed(GEMMA3N, Stream()).compute(s, x)
    squared = ("altup.num_inputs", "altup.num_inputs")
    coefficients = Linear("altup_predict_coef", squared, "altup.num_inputs").compute(s, router)
    wanted = theirs.predict(x.permute(1, 0, 2)[:, None])[:, 0].permute(1, 0, 2)
    torch.testing.assert_close(
        Predicted().compute(s, x, coefficients), wanted, atol=1e-7, rtol=0
    )  # transformers takes the tanh in float32


@pytest.mark.requires_transformers
@torch.no_grad()
def test_streams_are_corrected_as_transformers_does(theirs: Any) -> None:
    s, x, activated = held(theirs), draw(TOKENS, STREAMS, WIDTH), draw(TOKENS, WIDTH)
    router = routed(GEMMA3N).compute(s, activated)
    coefficients = Linear("altup_correct_coef", "altup.num_inputs", "altup.num_inputs").compute(s, router)
    wanted = theirs.correct(x.permute(1, 0, 2)[:, None], activated[None])[:, 0].permute(1, 0, 2)
    found = Corrected().compute(s, x, activated, coefficients)
    torch.testing.assert_close(found, wanted, atol=IN_FLOAT32, rtol=0)


def test_further_streams_are_as_long_as_the_first() -> None:
    held = {f"altup_proj.{i}.weight": draw(WIDTH, WIDTH) * (i + 1) for i in range(STREAMS - 1)}
    x = draw(TOKENS, WIDTH)
    y = Streams().compute(HeldStep(SETTINGS, held), x)
    assert torch.equal(y[:, 0], x)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1)[:, None].expand(TOKENS, STREAMS))
    product = x @ held["altup_proj.1.weight"].T
    cosine = torch.nn.functional.cosine_similarity(y[:, 2], product, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_streams_are_merged_to_their_mean() -> None:
    held = {f"altup_unembd_proj.{i}.weight": torch.eye(WIDTH).double() * (i + 2) for i in range(STREAMS - 1)}
    x = draw(TOKENS, STREAMS, WIDTH)
    x = x / x.norm(dim=-1, keepdim=True)
    y = MergedStreams().compute(HeldStep(SETTINGS, held), x)  # a matrix that only lengthens changes nothing
    torch.testing.assert_close(y, x.mean(1))


def test_all_but_the_first_stream_are_added_to() -> None:
    x, added = draw(TOKENS, STREAMS, WIDTH), draw(TOKENS, WIDTH)
    y = AddToOthers().compute(HeldStep(SETTINGS, {}), x, added)
    assert torch.equal(y[:, 0], x[:, 0])
    assert torch.equal(y[:, 3], x[:, 3] + added)


@pytest.mark.parametrize("of_a_sample", [False, True])
def test_gates_below_so_many_deviations_are_shut(of_a_sample: bool) -> None:
    gate, up = draw(TOKENS, WIDTH), draw(TOKENS, WIDTH)
    settings = {
        "activation": "relu",
        "activation_sparsity_scale": 0.5,
        "activation_sparsity_of_sample": of_a_sample,
    }
    found = SparseActivation().compute(HeldStep(settings, {}), gate, up)
    for token in range(TOKENS):
        mean = sum(gate[token].tolist()) / WIDTH
        squares = sum((value - mean) ** 2 for value in gate[token].tolist())
        cut = mean + 0.5 * (squares / (WIDTH - of_a_sample)) ** 0.5
        wanted = [
            max(g - cut, 0.0) * u for g, u in zip(gate[token].tolist(), up[token].tolist(), strict=True)
        ]
        torch.testing.assert_close(found[token], torch.tensor(wanted).double())
