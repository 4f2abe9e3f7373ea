"""GPT-NeoX: attention and network side by side, q, k and v of each head beside each other, a part of it rotated."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, parallel, sequential
from rosetta.architectures.parts.readings import QKV, Reading, Stored, fused, qkv_sizes, standard_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Whether the blocks stand side by side."""
    read.take("use_parallel_residual", "flag", True)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both blocks read the layer's input, each through a norm of its own; or one after the other."""
    arranged = parallel if c["use_parallel_residual"] else sequential
    return arranged(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF)),
        feed_forward(norm=a.norm_of("ffn_norm"), gated=False),
    )


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A Hugging Face folder has q, k and v of each head beside each other, GGUF all q first."""
    if stored.stem == "attn_qkv" and stored.foreign:
        heads = c["attention.head_count"]
        return fused(stored, QKV, [rows // heads for rows in qkv_sizes(c)], groups=heads)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


GPTNEOX = Architecture(
    "gptneox",
    gguf="gptneox",
    classes=("GPTNeoXForCausalLM", "gpt_neox"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu",
    gated=False,
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor", "rotary_pct"}),
        unread=frozenset({"attention.head_count_kv", "attention.key_length", "attention.value_length"}),
        turned_by="attention.key_length",  # GPTNeoXRotaryEmbedding asks for head_dim
        model_type="gpt_neox",
        defaults={  # transformers, GPTNeoXConfig
            "block_count": 44,
            "context_length": 2048,
            "embedding_length": 6144,
            "feed_forward_length": 24576,
            "attention.head_count": 64,
            "vocab_size": 50432,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.25,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
        },
        flags={"attention_bias": True},
        names={
            "embed_out": "output",
            "gpt_neox.embed_in": "token_embd",
            "gpt_neox.final_layer_norm": "output_norm",
            "gpt_neox.layers.{bid}.attention.dense": "blk.{bid}.attn_output",
            "gpt_neox.layers.{bid}.attention.query_key_value": "blk.{bid}.attn_qkv",
            "gpt_neox.layers.{bid}.input_layernorm": "blk.{bid}.attn_norm",
            "gpt_neox.layers.{bid}.mlp.dense_4h_to_h": "blk.{bid}.ffn_down",
            "gpt_neox.layers.{bid}.mlp.dense_h_to_4h": "blk.{bid}.ffn_up",
            "gpt_neox.layers.{bid}.post_attention_layernorm": "blk.{bid}.ffn_norm",
        },
    ),
    llamacpp=LlamaCpp(reads=frozenset({"use_parallel_residual"})),
)
