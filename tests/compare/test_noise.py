"""The predicted noise is measured: what quantisation does to a stage is what its dtypes predict, no more, no less."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import build, faults, model_spec, pair
from fixtures.comparing import TOKENS, compared, compared_files, faulty, tiny
from rosetta.compare.local_error import STAGE_RMS, Sums, local_error
from rosetta.compare.metrics import rms
from rosetta.compare.noise import RoundingOfPair
from rosetta.compare.results import StageDiff
from rosetta.graph import Node
from rosetta.model import open_model
from rosetta.ops.linear import Linear
from rosetta.transformer import Transformer, inputs_of

DTYPES = (
    "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"
)  # fmt: skip
NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
PRODUCTS = ("q", "k", "v", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "logits")
BAND = (0.6, 1.6)  # measured rms / predicted rms of a stage: a wrong factor of two in any σ lies outside


def measured(stages: list[StageDiff]) -> Iterator[tuple[str, float]]:
    """(stage, rms of its local error / rms of its predicted σ) where weights bring the noise in."""
    for stage in stages:
        if stage.op in PRODUCTS and stage.local is not None:
            yield stage.name, stage.local.rel_l2 / (stage.local.predicted_rel_l2 / STAGE_RMS)


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_of_every_dtype_is_what_is_predicted(tmp_path: Path, dtype: str) -> None:
    report = compared(tmp_path, model_spec("llama", layers=1), "hf:F32", f"gguf:{dtype}")
    assert report.verdict in ("match", "drift")
    assert faulty(report) == []
    ratios = dict(measured(report.stages))
    assert len(ratios) == 8
    assert {name: ratio for name, ratio in ratios.items() if not BAND[0] < ratio < BAND[1]} == {}
    for stage in report.stages[1:]:
        assert stage.local is not None
        assert stage.local.worst_ratio < 1, stage.name
        assert stage.local.max_diff <= stage.local.predicted_max_diff, stage.name


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("left", "right"), [("hf:BF16", "gguf:Q8_0"), ("apr:F16", "hf:BF16")])
def test_noise_of_two_coarse_sides_adds_up(tmp_path: Path, name: str, left: str, right: str) -> None:
    """Also through the norm over heads of qwen3, whose gain multiplies it, and over biases and positions."""
    report = compared(tmp_path, tiny(name, ffn=256 if name == "gpt2" else 96), left, right)
    assert faulty(report) == []
    ratios = dict(measured(report.stages))
    assert {stage: ratio for stage, ratio in ratios.items() if not BAND[0] < ratio < BAND[1]} == {}


def test_noise_of_the_embedding_is_that_of_the_rows_looked_up(tmp_path: Path) -> None:
    for name in ("llama", "gpt2"):
        (stage,) = [
            s for s in compared(tmp_path / name, name, "hf:F32", "gguf:F16").stages if s.op == "embedding"
        ]
        assert stage.local is not None
        assert BAND[0] < stage.local.rel_l2 / (stage.local.predicted_rel_l2 / STAGE_RMS) < BAND[1]


def test_noise_of_norms_is_that_of_their_weights(tmp_path: Path) -> None:
    """Norm weights are F32 in converted files; a folder in BF16 has coarse ones."""
    report = compared(tmp_path, "gpt2", "hf:BF16", "hf:F32")
    for stage in report.stages:
        if stage.op in ("attn_norm", "ffn_norm", "final_norm"):
            assert stage.local is not None
            ratio = stage.local.rel_l2 / (stage.local.predicted_rel_l2 / STAGE_RMS)
            assert BAND[0] < ratio < BAND[1], stage.name


# The float32 floor


@cache
def wide() -> list[int]:
    return np.random.default_rng(0).integers(2, 384, 24).tolist()


@pytest.mark.parametrize("name", [*NAMES, "gpt2 of large biases"])
@pytest.mark.parametrize("tokens", [1, 24])
def test_floor_bounds_what_float32_loses_against_float64(tmp_path: Path, name: str, tokens: int) -> None:
    biases = [faults.offset(f"blk.0.{norm}.bias", 100.0) for norm in ("attn_norm", "ffn_norm")]
    spec = model_spec(name.split()[0], layers=1)
    model = open_model(build(tmp_path, spec, "gguf:F32", biases if " " in name else ()))
    single, double = Transformer(model), Transformer(model, dtype=torch.float64)
    values = {"tokens": torch.tensor(wide()[:tokens])}
    for node in model.graph:
        inputs = inputs_of(node, values)
        exact = double.compute(node, [x if x.dtype == torch.int64 else x.double() for x in inputs])
        values[node.name] = single.compute(node, inputs)
        sigma = floor_of(single, node, values)
        error = values[node.name].double() - exact
        found = local_error([Sums.of(error.float(), sigma, values[node.name])])
        assert found.worst_ratio < 1, f"{node.name}: {found}"
        if is_linear(node):
            share = rms(error) / rms(sigma.expand_as(error))
            assert share > 0.02, f"{node.name}: the floor is {1 / share:.0f} times what float32 loses"


# A single wrong block, and faults that noise must not hide


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("dtype", "factor"), [("Q8_0", 1.25), ("Q6_K", 2.0), ("Q5_0", 2.0), ("Q4_0", -1.0), ("IQ4_NL", -1.0)]
)
def test_one_wrong_block_of_32_weights_is_faulty(tmp_path: Path, dtype: str, factor: float) -> None:
    fault = faults.block_scaled("blk.0.ffn_up.weight", factor, block=100)
    report = compared(
        tmp_path, model_spec("llama", layers=1), f"gguf:{dtype}", "hf:F32", fault, diagnose=False
    )
    assert faulty(report) == ["layers.0.ffn_up"]
    assert [tensor.name for tensor in report.weights.differing_tensors] == ["blk.0.ffn_up.weight"]


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_K", "Q2_K"])
def test_one_wrong_block_between_equal_dtypes_is_faulty_however_small(tmp_path: Path, dtype: str) -> None:
    fault = faults.nonfinite("blk.0.ffn_up.weight", 100 * 32, 0.0301)  # another scale of one block
    spec = model_spec("llama", layers=1)
    report = compared(tmp_path, spec, f"gguf:{dtype}", f"gguf:{dtype}", fault, diagnose=False)
    assert faulty(report) == ["layers.0.ffn_up"]


@pytest.mark.parametrize("dtype", ["Q4_K", "Q8_0", "F16"])
def test_wrong_epsilon_is_not_taken_for_quantisation(tmp_path: Path, dtype: str) -> None:
    """At one threshold for all: 1e-6 against 1e-5 is far below what Q4_K does to the logits."""
    spec = model_spec("qwen2", layers=1)
    report = compared(tmp_path, spec, f"gguf:{dtype}", "hf:F32", faults.norm_epsilon(1e-5), diagnose=False)
    assert faulty(report) == ["layers.0.attn_norm", "layers.0.ffn_norm", "final_norm"]


def test_nothing_explained_means_nothing_predicted(tmp_path: Path) -> None:
    """Two F32 files with one other value: F32 explains no more than its unit in the last place."""
    paths = pair(
        tmp_path, tiny("llama"), "gguf:F32", "gguf:F32", faults.nonfinite("blk.0.attn_v.weight", 5, 0.3)
    )
    report = compared_files(*paths, diagnose=False)
    assert faulty(report) == ["layers.0.v"]
    (stage,) = [s for s in report.stages if s.name == "layers.0.v"]
    assert stage.local is not None
    assert stage.local.predicted_max_diff < 1e-4


def test_rotary_floor_grows_with_the_position(tmp_path: Path) -> None:
    model = open_model(build(tmp_path, tiny("llama", layers=1), "gguf:F32"))
    transformer, node = Transformer(model), model.graph["layers.0.q_rope"]
    values = {"layers.0.q": torch.ones(200, 4, 16)}
    values[node.name] = output = transformer.compute(node, inputs_of(node, values))
    sigma = floor_of(transformer, node, values)
    fastest = sigma.expand_as(output)[:, 0, 0]
    assert fastest[199] > 20 * fastest[1]
    assert sigma.expand_as(output)[199, 0, 14] < fastest[199] / 20, "the slowest pair hardly turns"


def test_the_floor_of_float64_does_not_vanish_for_small_weights(tmp_path: Path) -> None:
    """A linear stage's is proportional to the unit of the arithmetic, however small its square is."""
    small = faults.scaled("blk.0.attn_v.weight", 1e-6)
    model = open_model(build(tmp_path, tiny("llama", layers=1), "gguf:F32", small))
    side = Transformer(model)
    values = dict(side.stages(list(TOKENS)))
    single, double = (
        floor_of(side, model.graph["layers.0.v"], values, dtype) for dtype in (torch.float32, torch.float64)
    )
    assert float(single.min()) > 0
    torch.testing.assert_close(double * 2.0**29, single, rtol=1e-5, atol=0)


def test_every_operation_has_a_floor(tmp_path: Path) -> None:
    for name in ("llama", "gpt2", "qwen3"):
        model = open_model(build(tmp_path / name, tiny(name, layers=1), "gguf:F32"))
        values: dict[str, torch.Tensor] = {"tokens": torch.tensor(TOKENS)}
        transformer = Transformer(model)
        for node in model.graph:
            values[node.name] = transformer.compute(node, inputs_of(node, values))
            sigma = floor_of(transformer, node, values)
            assert torch.isfinite(sigma).all(), node.name
            assert (sigma >= 0).all()
            assert sigma.max() > 0


@torch.inference_mode()
def floor_of(
    transformer: Transformer, node: Node, values: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """σ of a stage between a model and itself, shaped as the stage: the floor of the arithmetic alone."""
    rounding = RoundingOfPair(transformer.model, transformer.model, {}, dtype)
    y, inputs = values[node.name], inputs_of(node, values)
    parts = node.op.parts(transformer.step(node), rounding, y, *inputs)
    sigmas = [part.sigma().expand_as(part.of(y)) for part in parts]
    return torch.cat(sigmas, dim=-1).view(y.shape)


def is_linear(node: Node) -> bool:
    """Whether a stage is a product with a matrix, whatever comes after."""
    return isinstance(node.op, Linear) or isinstance(getattr(node.op, "ops", (None,))[0], Linear)
