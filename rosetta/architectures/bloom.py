"""BLOOM: ALiBi in place of rotary, a normed embedding, biases everywhere."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.gpt2 import GPT2
from rosetta.architectures.parts.builders import (
    attention,
    embedding,
    feed_forward,
    output_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.readings import readings_by_key_group
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader

LARGEST = 8.0  # Press et al. 2022; llama.cpp, models/bloom.cpp
OF_NORMS = "residual_of_norm"


def settings(read: SettingsReader) -> None:
    """ALiBi's largest exponent, which no file states; whether blocks are added to what they read, or to its norm."""
    read.fixed("attention.max_alibi_bias", LARGEST, "the architecture's")
    read.take(OF_NORMS, "flag", False, ("apply_residual_connection_post_layernorm",))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention whose scores fall with distance, then a network without a gate."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"), rope=None, scores=scores_of(c, alibi="attention.max_alibi_bias")
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), gated=False),
        of_norms=c[OF_NORMS],
    )


BLOOM = Architecture(
    "bloom",
    always=GPT2.always - {"position_embd.weight"},
    gguf="bloom",
    classes=("BloomForCausalLM", "BloomModel"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    rope=None,
    settings=settings,
    readings=readings_by_key_group,
    before=lambda a, c: embedding(a.norm_of("token_embd_norm")),
    layer=layer,
    huggingface=HuggingFace(
        unread=frozenset(
            {"activation", "attention.head_count_kv", "attention.key_length", "attention.value_length"}
        ),
        defaults={  # transformers, BloomConfig
            "block_count": 2,
            "embedding_length": 64,
            "attention.head_count": 8,
            "vocab_size": 250880,
            "tied_embeddings": True,
            "context_length": 2048,
        },
        spellings={
            "block_count": "n_layer",
            "attention.head_count": "n_head",
            OF_NORMS: "apply_residual_connection_post_layernorm",
        },
        names={
            "transformer.h.{bid}.input_layernorm": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.mlp.dense_4h_to_h": "blk.{bid}.ffn_down",
            "transformer.h.{bid}.mlp.dense_h_to_4h": "blk.{bid}.ffn_up",
            "transformer.h.{bid}.post_attention_layernorm": "blk.{bid}.ffn_norm",
            "transformer.h.{bid}.self_attention.dense": "blk.{bid}.attn_output",
            "transformer.h.{bid}.self_attention.query_key_value": "blk.{bid}.attn_qkv",
            "transformer.ln_f": "output_norm",
            "transformer.word_embeddings": "token_embd",
            "transformer.word_embeddings_layernorm": "token_embd_norm",
        },
    ),
    llamacpp=LlamaCpp(unread=frozenset({OF_NORMS})),
)
