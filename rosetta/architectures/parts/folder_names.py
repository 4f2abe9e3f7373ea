"""Names that modules have in the folders of several architectures, see `Architecture.names` and `parameters`."""

from __future__ import annotations

from collections.abc import Mapping

LAYER, BLOCK = "model.layers.{bid}.", "blk.{bid}."


def in_layers(names: Mapping[str, str], layer: str = LAYER) -> dict[str, str]:
    """Names with those of the layers before them.

    Args:
        names: of modules in a layer -> canonical stems.
        layer: what a folder calls a layer.
    """
    return {layer + name: BLOCK + stem for name, stem in names.items()}


def gated(module: str, kind: str = "") -> dict[str, str]:
    """The projections of a gated network.

    Args:
        module: the network, in a layer.
        kind: what its canonical stems end in: `_shexp` of the expert that serves all tokens.
    """
    return in_layers({f"{module}.{part}_proj": f"ffn_{part}{kind}" for part in ("gate", "up", "down")})


LATENT_KEYS = in_layers(
    {
        "self_attn.kv_a_layernorm": "attn_kv_a_norm",
        "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
        "self_attn.kv_b_proj": "attn_kv_b",
    }
)
LATENT_QUERIES = in_layers(
    {
        "self_attn.q_a_layernorm": "attn_q_a_norm",
        "self_attn.q_a_proj": "attn_q_a",
        "self_attn.q_b_proj": "attn_q_b",
    }
)
POST_NORMS = in_layers(
    {
        "post_attention_layernorm": "post_attention_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
)
NORMS_AROUND = {**POST_NORMS, **in_layers({"pre_feedforward_layernorm": "ffn_norm"})}
"""Of both blocks, before and after."""
BLOCK_SPARSE = in_layers(
    {
        "block_sparse_moe.gate": "ffn_gate_inp",
        "block_sparse_moe.experts.{eid}.w1": "ffn_gate_exps.{eid}",
        "block_sparse_moe.experts.{eid}.w2": "ffn_down_exps.{eid}",
        "block_sparse_moe.experts.{eid}.w3": "ffn_up_exps.{eid}",
    }
)
SCORE_CORRECTION = in_layers({"mlp.gate.e_score_correction_bias": "exp_probs_b.bias"})
"""Of `parameters`."""
MAMBA_NAMES = in_layers(
    {"mamba.conv1d": "ssm_conv1d", "mamba.in_proj": "ssm_in", "mamba.out_proj": "ssm_out"}
)
MAMBA_PARAMETERS = in_layers({"mamba.A_log": "ssm_a", "mamba.D": "ssm_d", "mamba.dt_bias": "ssm_dt.bias"})
MIXER_NAMES = {
    "backbone.embeddings": "token_embd",
    "backbone.norm_f": "output_norm",
    **in_layers(
        {
            "norm": "attn_norm",
            "mixer.conv1d": "ssm_conv1d",
            "mixer.in_proj": "ssm_in",
            "mixer.out_proj": "ssm_out",
        },
        "backbone.layers.{bid}.",
    ),
}
MIXER_PARAMETERS = in_layers({"mixer.A_log": "ssm_a", "mixer.D": "ssm_d"}, "backbone.layers.{bid}.")
