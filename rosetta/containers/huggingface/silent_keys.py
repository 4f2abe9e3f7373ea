"""Keys of config.json that say nothing of what a text is computed to: what a class was trained with, what generation
and loaders ask for, and flags of tensors, which are there or not."""

from __future__ import annotations

import re

from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS
from rosetta.containers.huggingface.text_part import NESTING

_ELSEWHERE = frozenset({  # read where settings are gathered, in other forms than facts
    "rope_parameters", "rope_scaling", "rope_theta", "rotary_emb_base", "rope_local_base_freq",
    "query_pre_attn_scalar", "scale_attn_weights", "sliding_window", "use_sliding_window",
    "layer_types", *NESTING, "architectures", "model_type", "quantization_config", "quantization",
    "max_window_layers", "transformers_version", "original_max_position_embeddings",
})  # fmt: skip
_SENSES = frozenset({"vision_config", "audio_config", "speech_config", "video_config"})
_BOOKS = frozenset({
    "_name_or_path", "name_or_path", "auto_map", "dtype", "torch_dtype", "finetuning_task",
    "unsloth_version", "id2label", "label2id", "num_labels", "problem_type", "is_encoder_decoder",
    "is_decoder", "tokenizer_class", "add_cross_attention", "chunk_size_feed_forward", "tf_legacy_loss",
    "use_bfloat16", "torchscript", "chunk_size", "mamba_chunk_size", "num_logits_to_keep",
    "use_associative_scan", "use_mambapy", "init_device", "model_max_length",
    "max_tokenizer_truncation", "ep_size", "seq_aux", "qk_head_dim", "reorder_and_upcast_attn",
    "mamba_ssm_cache_dtype", "time_step_floor", "time_step_scale", "time_step_init_scheme",
    "mm_tokens_per_image", "pretraining_tp", "slow_but_exact", "use_cache", "return_dict",
    "_attn_implementation", "cache_implementation", "init_method", "init_config", "task_specific_params",
    "tokenizer_name", "max_model_len", "router_dtype", "mamba_ssm_dtype", "moe_capacity", "block_mlp_init_scale",
    "block_out_init_scale", "pre_allocate_kv_cache", "pad_key_length", "validate_runner_input",
    "masked_softmax_fusion",
    # of layers that predict further tokens, which no text is run by
    "mtp_num_hidden_layers", "mtp_transformer_layers", "num_mtp_modules", "use_mtp",
})  # fmt: skip
_FLAGS = frozenset({  # of tensors
    "attention_bias", "attention_out_bias", "mlp_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias",
    "use_bias", "lm_head_bias", "bias", "no_bias", "conv_bias", "use_conv_bias", "mamba_conv_bias",
    "mamba_proj_bias", "projectors_bias", "use_qk_norm", "qk_layernorm", "qk_norm", "mamba_rms_norm",
    "use_expert_bias", "add_bias_linear", "word_embed_proj_dim",
})  # fmt: skip
_TRAINING = re.compile(
    r".*dropout.*|.*_pdrop|.*_drop|initializer_.*|.*_init|.*_init_(scheme|floor)|rescale_prenorm_residual|"
    r".*loss.*|output_(attentions|hidden_states|router_logits|scores)|summary_.*|classifier_.*|"
    r".*jitter_noise|.*_token_ids?|.*_token_index|.*_implementation|use_.*kernels?|.*fp32.*|.*flash_attn.*|.*_in_bf16"
)


def is_silent(name: str) -> bool:
    """Whether a key says nothing of a forward pass, or is read whatever the architecture.

    Args:
        name: as config.json, or the `text_config` in it, spells it.
    """
    known = name in _FACTS or name in _ELSEWHERE or name in _SENSES or name in _BOOKS or name in _FLAGS
    return known or _TRAINING.fullmatch(name) is not None


_FACTS = frozenset(spelling for fact in HUGGINGFACE_FACTS for spelling in fact.spellings)
