"""Qwen 1: llama with q, k and v in one tensor and a bias on them; its files count gate and up as one width."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The width of gate and up is half of what the files say (llama.cpp, models/qwen.cpp)."""
    width = read.config["feed_forward_length"]
    read.fixed("feed_forward_length", width.value // 2, f"half of {width.key or 'the default'}")
    if read.container.kind == "huggingface":
        read.take("attention.layer_norm_rms_epsilon", "number", 1e-6, ("layer_norm_epsilon",))


QWEN = Architecture(
    "qwen",
    gguf="qwen",
    classes=("QWenLMHeadModel",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    settings=settings,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_qwen.py of Qwen/Qwen-7B
            "block_count": 32,
            "context_length": 8192,
            "embedding_length": 4096,
            "feed_forward_length": 22016,
            "attention.head_count": 32,
            "attention.key_length": 128,
            "vocab_size": 151936,
            "tied_embeddings": False,
        },
        spellings={
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
            "rope.freq_base": "rotary_emb_base",
            "attention.key_length": "kv_channels",
            "attention.value_length": "kv_channels",
        },
        keys={"intermediate_size": lambda c: 2 * c["feed_forward_length"].value},
        names={
            "transformer.h.{bid}.attn.c_attn": "blk.{bid}.attn_qkv",
            "transformer.h.{bid}.attn.c_proj": "blk.{bid}.attn_output",
            "transformer.h.{bid}.ln_1": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.ln_2": "blk.{bid}.ffn_norm",
            "transformer.h.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
            "transformer.h.{bid}.mlp.w1": "blk.{bid}.ffn_up",
            "transformer.h.{bid}.mlp.w2": "blk.{bid}.ffn_gate",
            "transformer.ln_f": "output_norm",
            "transformer.wte": "token_embd",
        },
    ),
)
