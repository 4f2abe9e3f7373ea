"""Keys of an architecture whose values are numbers, by the type that llama.cpp reads them as (llama-model.cpp,
`ml.get_key`; gguf-py's writers)."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNTS = _words("""
    attention.head_count attention.head_count_kv attention.key_length attention.key_length_mla
    attention.key_length_swa attention.kv_lora_rank attention.q_lora_rank attention.shared_kv_layers
    attention.sliding_window attention.value_length attention.value_length_mla
    attention.value_length_swa block_count context_length embedding_length
    embedding_length_per_layer_input expert_count expert_feed_forward_length expert_gating_func
    expert_group_count expert_group_used_count expert_shared_count expert_shared_feed_forward_length
    expert_used_count feed_forward_length interleave_moe_layer_step kda.head_dim
    leading_dense_block_count moe_latent_size nextn_predict_layers rope.dimension_count
    rope.dimension_count_swa rope.scaling.original_context_length shortconv.l_cache ssm.conv_kernel
    ssm.group_count ssm.inner_size ssm.state_size ssm.time_step_rank vocab_size
""")
NUMBERS = _words("""
    attention.clamp_kqv attention.layer_norm_epsilon attention.layer_norm_rms_epsilon
    attention.max_alibi_bias attention.scale attn_logit_softcapping embedding_scale expert_weights_scale
    final_logit_softcapping logit_scale residual_scale rope.freq_base rope.freq_base_swa
    rope.scaling.attn_factor rope.scaling.factor rope.scaling.yarn_beta_fast rope.scaling.yarn_beta_slow
    rope.scaling.yarn_ext_factor rope.scaling.yarn_log_multiplier
""")
FLAGS = _words("""
    attention.causal expert_weights_norm rope.scaling.finetuned ssm.dt_b_c_rms use_parallel_residual
""")
