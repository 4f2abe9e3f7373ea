"""StarCoder 1 (GPT-BigCode): GPT-2 with one head of keys and values for all."""

from __future__ import annotations

from rosetta.architectures.architecture import Architecture, Default
from rosetta.architectures.readings import readings_by_key_group

STARCODER = Architecture(
    "starcoder",
    gguf="starcoder",
    classes=("GPTBigCodeForCausalLM", "gpt_bigcode"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    rope=None,
    learned_positions=True,
    readings=readings_by_key_group,
    huggingface={  # transformers, GPTBigCodeConfig
        "block_count": 12,
        "context_length": 1024,
        "embedding_length": 768,
        "attention.head_count": 12,
        "attention.head_count_kv": 1,
        "vocab_size": 50257,
        "tied_embeddings": True,
    },
    names={
        "transformer.h.{bid}.attn.c_attn": "blk.{bid}.attn_qkv",
        "transformer.h.{bid}.attn.c_proj": "blk.{bid}.attn_output",
        "transformer.h.{bid}.ln_1": "blk.{bid}.attn_norm",
        "transformer.h.{bid}.ln_2": "blk.{bid}.ffn_norm",
        "transformer.h.{bid}.mlp.c_fc": "blk.{bid}.ffn_up",
        "transformer.h.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
        "transformer.ln_f": "output_norm",
        "transformer.wpe": "position_embd",
        "transformer.wte": "token_embd",
    },
    model_type="gpt_bigcode",
    spellings={
        "embedding_length": "n_embd",
        "block_count": "n_layer",
        "attention.head_count": "n_head",
        "context_length": "n_positions",
        "activation": "activation_function",
    },
)
