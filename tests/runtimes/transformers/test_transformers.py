"""transformers observed: who consumes a parameter is which stage, for models that rosetta knows and for others."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures import build
from fixtures.blueprint import Array
from fixtures.observing import IDS, NOISE, largest_difference, our_stages
from fixtures.oracles import transformers_logits
from rosetta.errors import UsageError
from rosetta.runtimes.transformers import TransformersCapture

pytestmark = pytest.mark.requires_transformers
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip

USUAL = {
    "attn_norm", "q", "k", "v", "attn_scores", "attn_context", "attn_out", "attn_residual", "ffn_norm", "ffn_gate",
    "ffn_up", "ffn_act", "ffn_out", "residual",
}  # fmt: skip


def saved(folder: Path, model_type: str, **settings: Any) -> Path:
    """A random model of a class that rosetta may not know, as transformers saves it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    chosen = {key: value for key, value in (SMALL | settings).items() if value is not None}
    config = AutoConfig.for_model(model_type, **chosen)
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def in_our_order(stages: dict[str, Array], architecture: str) -> dict[str, Array]:
    """Stages of a folder with q and k as GGUF has them: of llama and mistral, adjacent pairs."""
    if architecture not in ("llama", "mistral"):
        return stages
    turned = {}
    for name, value in stages.items():
        if name.rpartition(".")[2] in ("q", "k", "q_rope", "k_rope"):
            halves = value.reshape(*value.shape[:-1], 2, -1)
            value = np.ascontiguousarray(halves.swapaxes(-1, -2)).reshape(value.shape)
        turned[name] = value
    return turned


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_stage_is_captured_and_is_ours(tmp_path: Path, architecture: str) -> None:
    ours = our_stages(build(tmp_path, architecture, "gguf:F32"))
    run = TransformersCapture(build(tmp_path, architecture, "hf:F32"), IDS)
    theirs = in_our_order(dict(run), architecture)
    assert run.facts.failure is None, run.facts.failure
    assert list(theirs) == list(ours), run.facts.skipped
    assert run.facts.rope == (None if architecture == "gpt2" else "split_half")
    for stage, value in theirs.items():
        assert value.shape == ours[stage].shape, stage
        assert largest_difference(value, ours[stage]) < 10 * NOISE, stage


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_local_errors_are_those_of_float32(tmp_path: Path, architecture: str) -> None:
    ours = our_stages(build(tmp_path, architecture, "gguf:F32"))
    theirs = dict(TransformersCapture(build(tmp_path, architecture, "hf:F32"), IDS, overwrite=ours))
    worst = {stage: largest_difference(theirs[stage], ours[stage]) for stage in ours}
    assert max(worst.values()) < NOISE, worst


def test_an_overwritten_stage_is_what_everything_after_it_sees(tmp_path: Path) -> None:
    folder = build(tmp_path, "qwen2", "hf:F32")
    clean = dict(TransformersCapture(folder, IDS))
    twice = {"layers.0.residual": 2 * clean["layers.0.residual"]}
    given = dict(TransformersCapture(folder, IDS, overwrite=twice))
    assert np.array_equal(given["layers.0.residual"], clean["layers.0.residual"])  # what was computed
    assert (
        largest_difference(given["layers.1.attn_norm"], clean["layers.1.attn_norm"]) < 1e-2
    )  # the norm takes it off
    expected = twice["layers.0.residual"] + given["layers.1.attn_out"]
    assert largest_difference(given["layers.1.attn_residual"], expected) < NOISE


@pytest.mark.parametrize("stage", ["q_rope", "k_rope", "q", "k"])
def test_queries_and_keys_without_values_see_all_tokens_alike(tmp_path: Path, stage: str) -> None:
    folder = build(tmp_path, "qwen2", "hf:F32")
    zeros = {f"layers.0.{stage}": np.zeros_like(dict(TransformersCapture(folder, IDS))[f"layers.0.{stage}"])}
    scores = dict(TransformersCapture(folder, IDS, overwrite=zeros))["layers.0.attn_scores"]
    expected = np.tril(np.ones(scores.shape[1:])) / np.arange(1, scores.shape[1] + 1)[:, None]
    assert np.allclose(scores, expected, atol=1e-6)


def test_watching_changes_no_bit(tmp_path: Path) -> None:
    folder = build(tmp_path, "llama", "hf:F32")
    assert np.array_equal(dict(TransformersCapture(folder, IDS))["logits"], transformers_logits(folder, IDS))


@pytest.mark.parametrize(
    ("model_type", "settings", "lacks"),
    [
        (
            "falcon",
            {"new_decoder_architecture": True, "num_kv_heads": 2, "head_dim": None},
            {"ffn_gate", "attn_residual", "k"},
        ),
        ("gpt_neox", {"rotary_pct": 0.25}, {"ffn_gate", "attn_residual"}),
        ("gemma2", {}, set()),
        ("cohere", {}, {"attn_residual", "ffn_norm"}),
        ("phi3", {"pad_token_id": 0}, set()),
        ("olmo2", {}, {"attn_norm", "ffn_norm"}),
    ],
)
def test_architectures_that_rosetta_does_not_know(
    tmp_path: Path, model_type: str, settings: dict[str, Any], lacks: set[str]
) -> None:
    folder = saved(tmp_path, model_type, **settings)
    run = TransformersCapture(folder, IDS)
    stages = dict(run)
    assert run.facts.failure is None, run.facts.failure
    assert np.array_equal(stages["logits"], transformers_logits(folder, IDS))
    found = {name.rpartition(".")[2] for name in stages if name.startswith("layers.1.")}
    assert USUAL - lacks <= found, run.facts.skipped
    assert not lacks & found
    scores, v = stages["layers.1.attn_scores"], stages["layers.1.v"]
    context = np.einsum("nqk,knd->qnd", scores, np.repeat(v, len(scores) // v.shape[1], 1))
    assert largest_difference(stages["layers.1.attn_context"], context.reshape(len(IDS), -1)) < NOISE
    assert stages["layers.1.attn_scores"].shape == (4, len(IDS), len(IDS))


def test_experts_are_stacked_in_the_order_of_choice(tmp_path: Path) -> None:
    folder = saved(tmp_path, "qwen3_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24)
    run = TransformersCapture(folder, IDS)
    stages = dict(run)
    assert run.facts.failure is None, run.facts.failure
    from safetensors.torch import load_file

    weights = {name: value.numpy() for name, value in load_file(folder / "model.safetensors").items()}
    router, entering = stages["layers.1.ffn_router"], stages["layers.1.ffn_norm"]
    assert router.shape == (len(IDS), 2, 2)
    scores = entering @ weights["model.layers.1.mlp.gate.weight"].T
    assert np.array_equal(router[..., 0], np.argsort(-scores, -1)[:, :2])
    total = np.zeros_like(entering)
    for token in range(len(IDS)):
        for choice in range(2):
            expert = f"model.layers.1.mlp.experts.{int(router[token, choice, 0])}."
            for stage, part in (("ffn_gate", "gate_proj"), ("ffn_up", "up_proj")):
                expected = weights[f"{expert}{part}.weight"] @ entering[token]
                assert largest_difference(stages[f"layers.1.{stage}"][token, choice], expected) < NOISE
            act = stages["layers.1.ffn_act"][token, choice]
            total[token] += router[token, choice, 1] * (weights[f"{expert}down_proj.weight"] @ act)
    assert largest_difference(stages["layers.1.ffn_out"], total) < NOISE


@pytest.mark.requires_llamacpp
def test_a_gguf_file_is_read_by_transformers_own_loader(tmp_path: Path) -> None:
    from rosetta.runtimes.llamacpp import LlamaCppCapture

    path = build(tmp_path, "qwen2", "gguf:F32")
    run = TransformersCapture(path, IDS)
    theirs, llama = dict(run), dict(LlamaCppCapture(path, IDS))
    assert run.facts.failure is None, run.facts.failure
    worst = {stage: largest_difference(theirs[stage], llama[stage]) for stage in llama}
    assert max(worst.values()) < 10 * NOISE, worst


def test_a_folder_that_transformers_refuses_is_a_value(tmp_path: Path) -> None:
    folder = build(tmp_path, "llama", "hf:F32")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nonesuch"}), "utf-8")
    run = TransformersCapture(folder, IDS)
    assert dict(run) == {}
    assert run.facts.failure is not None
    assert run.facts.failure.kind == "load"
    assert "nonesuch" in run.facts.failure.message


def test_nobody_needs_to_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rosetta.runtimes.transformers.session import Session

    watched: list[torch.nn.Module] = []
    forward = Session._forward

    def watching(self: Session, *args: Any) -> torch.Tensor:
        watched.append(self.model)
        return forward(self, *args)

    monkeypatch.setattr(Session, "_forward", watching)
    stages = iter(TransformersCapture(build(tmp_path, "llama", "hf:F32"), IDS))
    name, _ = next(stages)
    assert name == "embedding"
    stages.close()  # type: ignore[attr-defined]
    assert watched
    for module in watched[-1].modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks


def test_a_value_that_an_option_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dtype is 'bogus'"):
        TransformersCapture(tmp_path, [1], {"dtype": "bogus"})


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kv"):
        TransformersCapture(tmp_path, IDS, {"kv": "f16"})


def test_without_the_extra_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name)
    )
    with pytest.raises(UsageError, match=r"pip install 'rosetta-trace\[transformers\]'"):
        TransformersCapture(tmp_path, IDS)
