"""Which stage the consumer of a weight is: one table, by canonical tensor name, for every runtime.

Norms are not in it, nor q, k and v after them: which norm a norm is follows from what it is computed from, because
one name means two things (`post_attention_norm` is the feed-forward network's own norm in gpt-oss and GLM-4.5, and
the norm after attention in Gemma 2).
"""

from __future__ import annotations

from collections.abc import Mapping

# stem of the canonical tensor name -> the stage that its last consumer (weight, bias, scale) is
STAGE_OF: Mapping[str, str] = {
    "attn_output": "attn_out",
    "attn_gate": "attn_gate_in",
    "attn_q_a_norm": "q_a",
    "attn_kv_a_norm": "kv_a",
    "ffn_gate": "ffn_gate",
    "ffn_gate_exps": "ffn_gate",
    "ffn_up": "ffn_up",
    "ffn_up_exps": "ffn_up",
    "ffn_down": "ffn_out",
    "ssm_in": "ssm_in",
    "shortconv.in_proj": "ssm_in",
    "ssm_out": "ssm_out",
    "shortconv.out_proj": "ssm_out",
    "output_norm": "final_norm",
}

# stem of the canonical tensor name -> the stage that its product is computed from, where no other weight makes that one
ENTERING: Mapping[str, str] = {
    "ffn_down_shexp": "ffn_act_shexp",
    "inp_gate": "ffn_residual",
    "proj": "per_layer_gated",
    "altup_predict_coef": "altup_router",
    "altup_correct_coef": "altup_correct_router",
}

# by what part of a layer it belongs to
FEED_FORWARD = frozenset(
    {
        "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_up", "ffn_gate_inp", "ffn_gate_inp_shexp",
        "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps", "ffn_latent_down", "ffn_latent_up",
        "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp", "ffn_exp_probs_b", "exp_probs_b",
    }
)  # fmt: skip
MIXER = ("attn_", "ssm_", "shortconv.")  # how stems of attention and recurrence begin
PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
EXPERTS_IN = ("ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps")
CONVOLUTION = ("ssm_conv1d", "shortconv.conv")
RECURRENT_OUT = ("ssm_out", "shortconv.out_proj")
DECOMPRESSION = frozenset({"attn_v_b", "attn_k_b"})  # MLA, absorbed: heads live in the latent space

BEFORE_LAYERS = (
    "embedding",
    "altup_proj",
    "per_layer_token_embd",
    "per_layer_model_proj",
    "per_layer_embedding",
)
HEAD = ("final_norm", "logits")
ORDER = (
    "altup_router", "altup_predict_coef", "altup_predicted",
    "attn_norm", "q_a", "kv_a", "q", "k", "v", "q_rope", "k_rope", "attn_scores", "attn_context", "attn_gate_in",
    "attn_gate",
    "ssm_in", "ssm_conv", "ssm_scan", "ssm_norm", "ssm_out", "attn_out", "attn_post_norm", "laurel_l",
    "laurel_r", "laurel_post_norm", "laurel", "attn_residual", "attn_laurel", "ffn_norm",
    "ffn_dense_gate", "ffn_dense_up", "ffn_dense_act", "ffn_dense", "post_ffw_norm_1",
    "ffn_router_norm", "ffn_router", "pre_ffw_norm_2", "ffn_gate", "ffn_up", "ffn_act",
    "ffn_gate_shexp", "ffn_up_shexp", "ffn_act_shexp", "ffn_down_shexp", "ffn_gate_inp_shexp", "ffn_shared",
    "ffn_out", "post_ffw_norm_2", "ffn_post_norm",
    "ffn_residual", "altup_correct_router", "altup_correct_coef", "altup_corrected", "altup_correct_scale",
    "inp_gate", "per_layer_gated", "proj", "post_norm", "layer_scale", "residual",
)  # fmt: skip


def stage_rank(op: str) -> float:
    """Where a stage stands within its layer; one that has no place of its own comes before the residual."""
    return ORDER.index(op) if op in ORDER else ORDER.index("residual") - 0.5
