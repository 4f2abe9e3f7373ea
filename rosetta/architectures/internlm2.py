"""InternLM 2: llama whose folder has the queries that share a key, that key and its value beside each other."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace
from rosetta.architectures.parts.readings import readings_by_key_group

INTERNLM2 = Architecture(
    "internlm2",
    gguf="internlm2",
    classes=("InternLM2ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-6),
    rope=INTERLEAVED,
    readings=readings_by_key_group,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_internlm2.py of internlm/internlm2-7b
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 103168,
            "tied_embeddings": False,
        },
        names={
            "model.layers.{bid}.attention.wo": "blk.{bid}.attn_output",
            "model.layers.{bid}.attention.wqkv": "blk.{bid}.attn_qkv",
            "model.layers.{bid}.attention_norm": "blk.{bid}.attn_norm",
            "model.layers.{bid}.feed_forward.w1": "blk.{bid}.ffn_gate",
            "model.layers.{bid}.feed_forward.w2": "blk.{bid}.ffn_down",
            "model.layers.{bid}.feed_forward.w3": "blk.{bid}.ffn_up",
            "model.layers.{bid}.ffn_norm": "blk.{bid}.ffn_norm",
            "model.tok_embeddings": "token_embd",
            "output": "output",
        },
    ),
)
