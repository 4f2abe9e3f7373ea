"""Canonical names of live parameters."""

from __future__ import annotations

import pytest

from rosetta.runtimes.transformers.weight_names import canonical_weight, gguf_architecture


@pytest.mark.parametrize(
    ("name", "architecture", "expected"),
    [
        ("model.layers.3.self_attn.q_proj.bias", "qwen2", "blk.3.attn_q.bias"),
        ("model.layers.0.post_attention_layernorm.weight", "llama", "blk.0.ffn_norm.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "gemma2", "blk.0.post_attention_norm.weight"),
        ("transformer.h.1.attn.c_attn.weight", "gpt2", "blk.1.attn_qkv.weight"),
        ("model.layers.1.mlp.experts.gate_up_proj", "qwen3moe", "blk.1.ffn_gate_up_exps.weight"),
        ("model.layers.1.mlp.experts.down_proj_bias", "gpt-oss", "blk.1.ffn_down_exps.bias"),
        ("model.layers.1.mlp.gate.e_score_correction_bias", "deepseek2", "blk.1.exp_probs_b.bias"),
        ("model.language_model.layers.2.mlp.gate_proj.weight", None, "blk.2.ffn_gate.weight"),
        ("model.layers.2.linear_attn.dt_bias", "qwen35", "blk.2.ssm_dt.weight"),
        ("model.embed_tokens.weight", None, "token_embd.weight"),
        ("model.embed_tokens_per_layer.weight", "gemma4", "per_layer_token_embd.weight"),
        ("lm_head.weight", None, "output.weight"),
        ("model.layers.5.something.new.weight", None, "blk.5.something.new.weight"),
    ],
)
def test_canonical_names(name: str, architecture: str | None, expected: str) -> None:
    assert canonical_weight(name, architecture) == expected


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("qwen3_moe", "qwen3moe"),
        ("mistral", "llama"),
        ("deepseek_v3", "deepseek2"),
        ("gemma3_text", "gemma3"),
        ("gpt_oss", "gpt-oss"),
        ("cohere", "command-r"),
        ("qwen2_5_vl_text", "qwen2vl"),
        ("dbrx", "dbrx"),
        ("nonesuch", None),
    ],
)
def test_architectures_by_model_type(model_type: str, expected: str | None) -> None:
    assert gguf_architecture(model_type) == expected
