"""Flags of config.json that say whether layers have a tensor: what one denies, transformers leaves out, though the
folder holds it."""

from __future__ import annotations

from collections.abc import Container, Mapping

_SPLIT = ("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias")
_LATENT = ("attn_q_a.bias", "attn_kv_a_mqa.bias")
_NETWORK = ("ffn_up.bias", "ffn_down.bias", "ffn_gate.bias")
_STATE = ("ssm_in.bias", "ssm_out.bias")
_HEADS = ("attn_q_norm.weight", "attn_q_norm.bias", "attn_k_norm.weight", "attn_k_norm.bias")
LEFT_OUT: Mapping[str, tuple[str, ...]] = {  # transformers, modeling_*.py, where the flag is asked for
    "attention_bias": (*_SPLIT, *_LATENT, "attn_output.bias"),
    "use_qkv_bias": _SPLIT,
    "qkv_bias": _SPLIT,
    "attention_out_bias": ("attn_output.bias",),
    "mlp_bias": _NETWORK,
    "bias": (*_SPLIT, "attn_output.bias", *_NETWORK),
    "use_bias": (*_SPLIT, "attn_output.bias", *_NETWORK, *_STATE),
    "mamba_rms_norm": ("ssm_norm.weight",),
    "mamba_conv_bias": ("ssm_conv1d.bias",),
    "use_conv_bias": ("ssm_conv1d.bias",),
    "conv_bias": ("shortconv.in_proj.bias", "shortconv.conv.bias", "shortconv.out_proj.bias"),
    "mamba_proj_bias": _STATE,
    "projectors_bias": ("ssm_out.bias",),
    "use_qk_norm": _HEADS,
    "qk_layernorm": _HEADS,
    "use_post_norm": ("post_attention_norm.weight", "post_ffw_norm.weight"),
    "use_expert_bias": ("exp_probs_b.bias",),
    "lm_head_bias": ("output.bias",),
}
"""Stems of tensors, without the layer, that there are only where the flag is set."""
VAGUE = frozenset({"bias", "conv_bias", "projectors_bias"})
"""Flags whose names say which tensors they mean only in a class that is known."""
_OF_A_PART = {
    "attention_bias": "attention_out_bias",
    "mamba_proj_bias": "projectors_bias",
    "use_bias": "mlp_bias",
}


def left_out(flags: Container[str], flag: str) -> tuple[str, ...]:
    """What a flag denies that a class has among these, where one of its own speaks of a part."""
    part = _OF_A_PART.get(flag, "")
    outer = LEFT_OUT[part] if part in flags else ()
    return tuple(stem for stem in LEFT_OUT[flag] if stem not in outer)
