"""Keys of a GGUF file that llama.cpp asks for of some architectures only, each of which says which (`llamacpp.reads`).
What llama.cpp does not ask for it does not compute, whatever a file states.

Source: llama.cpp, `load_arch_hparams` of src/models/*.cpp. Keys are without the architecture. Those that it asks for
of every architecture are left out (src/llama-model.cpp, `llama_model_base::load_hparams`), and so are a scale of the
scores and windows: a file of any architecture that states one is held to it, as its folder would be.
"""

from __future__ import annotations

EXPERTS = frozenset(
    {
        "expert_feed_forward_length",
        "expert_gating_func",
        "expert_shared_count",
        "expert_weights_norm",
        "expert_weights_scale",
        "leading_dense_block_count",
    }
)
"""Of mixtures: how wide experts are, how they are weighed, which layers have none."""

LATENT = frozenset(
    {
        "attention.key_length_mla",
        "attention.kv_lora_rank",
        "attention.q_lora_rank",
        "attention.value_length_mla",
    }
)
"""Of latent attention."""

STATE = frozenset(
    {"ssm.conv_kernel", "ssm.group_count", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank"}
)
"""Of state spaces."""

DELTA = STATE | {"attention.recurrent_layers", "full_attention_interval"}
"""Of gated delta networks, and which layers they are."""

FACTORS = frozenset({"embedding_scale", "logit_scale", "residual_scale"})
"""By which embeddings, what blocks add, and logits are multiplied."""

INDEXER = frozenset(
    {"attention.indexer.head_count", "attention.indexer.key_length", "attention.indexer.top_k"}
)
"""Of sparse attention."""

ERNIE = frozenset(
    {
        "expert_feed_forward_length",
        "expert_shared_feed_forward_length",
        "interleave_moe_layer_step",
        "leading_dense_block_count",
        "rope.dimension_sections",
    }
)
"""Of ERNIE 4.5, dense or of experts, and of what is made of it."""

OF_SOME = (
    EXPERTS
    | LATENT
    | DELTA
    | FACTORS
    | INDEXER
    | {
        "attention.clamp_kqv",
        "attention.indexer.block_size",
        "attention.indexer.local_blocks",
        "attention.indexer.types",
        "attention.max_alibi_bias",
        "attention.rope_pattern",
        "attention.shared_kv_layers",
        "attention.temperature_length",
        "attention.temperature_scale",
        "attention.value_scale",
        "attn_logit_softcapping",
        "embedding_length_per_layer_input",
        "expert_shared_feed_forward_length",
        "final_logit_softcapping",
        "interleave_moe_layer_step",
        "kda.head_dim",
        "moe_latent_size",
        "rope.dimension_sections",
        "rope.freq_base_swa",
        "rope.scaling.alpha",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_log_multiplier",
        "shortconv.l_cache",
        "ssm.dt_b_c_rms",
        "swiglu_clamp_exp",
        "swiglu_clamp_shexp",
        "use_parallel_residual",
    }
)
"""All of them."""
