"""The metadata keys of `.apr` v2: their canonical spelling, type and aliases.

Source: aprender v2/header_impl.rs (what is strict), realizar apr/metadata.rs (the aliases).
"""

from __future__ import annotations

from rosetta.containers.values import COUNT, FLAG, NUMBER, QUANTIZATION, TABLE, TEXT, TEXT_TABLE, Kind

LICENCE_KEYS: tuple[str, ...] = ("license", "data_source", "data_license")
"""Written even where they are unset, as null; no other key may be null."""

ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_dim", "d_model", "n_embd"),
    "num_layers": ("n_layers", "num_hidden_layers", "n_layer"),
    "num_heads": ("n_heads", "num_attention_heads", "n_head"),
    "num_kv_heads": ("n_kv_heads", "num_key_value_heads"),
    "vocab_size": ("n_vocab",),
    "intermediate_size": ("ffn_dim", "intermediate_dim", "n_inner"),
    "max_position_embeddings": ("max_seq_len", "context_length", "n_ctx"),
    "rms_norm_eps": ("layer_norm_eps", "norm_eps"),
}
"""Other spellings that a loader takes for the same field, in order of trust."""

CANONICAL_SPELLING: dict[str, str] = {alias: key for key, aliases in ALIASES.items() for alias in aliases}

TYPED_KEYS: dict[str, Kind] = {
    **dict.fromkeys(("model_type", "name", "description", "author", "version", "source"), TEXT),
    **dict.fromkeys(("original_format", "created_at", "chat_template", "chat_format"), TEXT),
    **dict.fromkeys((*LICENCE_KEYS, "architecture", "hf_architecture", "hf_model_type"), TEXT),
    **dict.fromkeys(("total_size", "param_count", "hidden_size", "num_layers", "num_heads"), COUNT),
    **dict.fromkeys(("num_kv_heads", "vocab_size", "intermediate_size", "max_position_embeddings"), COUNT),
    **dict.fromkeys(("rope_type", "head_dim", "num_experts", "num_experts_per_tok"), COUNT),
    **dict.fromkeys(("moe_intermediate_size",), COUNT),
    **dict.fromkeys(("rope_theta", "rms_norm_eps"), NUMBER),
    "norm_topk_prob": FLAG,
    "quantization": QUANTIZATION,
    "sharding": TABLE,
    "special_tokens": TEXT_TABLE,
}
"""Keys that a strict loader parses into a field; a value of another type costs it the whole file."""
