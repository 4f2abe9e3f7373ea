"""Refact: llama with ALiBi in place of rotary and one head of keys and values for all."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, scores_of, sequential
from rosetta.architectures.parts.readings import (
    Reading,
    Stored,
    fused,
    gate_beside_up,
    qkv_sizes,
    standard_readings,
)
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader

ALIBI = "attention.max_alibi_bias"
MULTIPLE = 256  # of which the width of the network is the next (modeling_gpt_refact.py)


def settings(read: SettingsReader) -> None:
    """What the model's own code says, and no key: ALiBi, the width of the network, one head of keys."""
    read.fixed(ALIBI, 8.0, "the architecture's")
    if read.container.kind != "huggingface":
        return
    width = 8 * read.config["embedding_length"].value // 3
    read.fixed("feed_forward_length", -(-width // MULTIPLE) * MULTIPLE, "the architecture's")
    read.fixed("attention.head_count_kv", 1, "the architecture's")
    read.take("attention.layer_norm_rms_epsilon", "number", 1e-5, ("layer_norm_epsilon",))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention whose scores fall with distance, then a gated network."""
    return sequential(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=None, scores=scores_of(c, alibi=ALIBI)),
        feed_forward(norm=a.norm_of("ffn_norm")),
    )


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder has k and v in one tensor, and gate and up in another."""
    if stored.stem == "attn_kv":
        return fused(stored, ("attn_k", "attn_v"), qkv_sizes(c)[1:])
    found = gate_beside_up(stored, c) if stored.foreign else None
    found = found or standard_readings(stored, c)
    return None if found is None else list(found)


REFACT = Architecture(
    "refact",
    gguf="refact",
    classes=("GPTRefactForCausalLM", "gpt_refact"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=None,
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_gpt_refact.py of smallcloudai/Refact-1_6B-fim
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 2048,
            "attention.head_count": 32,
            "vocab_size": 49216,
            "tied_embeddings": False,
        },
        spellings={
            "block_count": "n_layer",
        },
        names={
            "transformer.h.{bid}.attn.c_proj": "blk.{bid}.attn_output",
            "transformer.h.{bid}.attn.kv": "blk.{bid}.attn_kv",
            "transformer.h.{bid}.attn.q": "blk.{bid}.attn_q",
            "transformer.h.{bid}.ln_1": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.ln_2": "blk.{bid}.ffn_norm",
            "transformer.h.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
            "transformer.h.{bid}.mlp.gate_up_proj": "blk.{bid}.ffn_up",
            "transformer.ln_f": "output_norm",
            "transformer.wte": "token_embd",
        },
    ),
    llamacpp=LlamaCpp(idle=frozenset({"attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"})),
)
