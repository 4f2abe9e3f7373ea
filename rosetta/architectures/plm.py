"""PLM: latent attention, queries without a latent, and a network without a gate, of squared ReLU."""

from __future__ import annotations

import math

from rosetta.architectures import INTERLEAVED, SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import feed_forward, latent_attention, output_of, sequential
from rosetta.architectures.parts.expert_settings import latent_settings
from rosetta.architectures.parts.folder_names import LATENT_KEYS
from rosetta.architectures.parts.readings import first_of, latent_keys_values, standard_readings
from rosetta.graph import Stage
from rosetta.ops.latent import LATENT_EPSILON, latent_norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sizes of latent attention, and the epsilon of its norm."""
    latent_settings(read, query_rank=0, rank=512, own=128, value=128)
    read.fixed(LATENT_EPSILON, read.config[read.architecture.epsilon_key].value, "that of all norms")
    length = read.config["attention.key_length"].value
    read.fixed("attention.scale", 1 / math.sqrt(length), "1/√(key length)")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Latent attention, then a network without a gate."""
    mixer = latent_attention(
        norm=a.norm_of("attn_norm"),
        rope=Rotary(INTERLEAVED, last=True),
        latent_norm=latent_norm,
        low_rank_queries=False,
    )
    return sequential(output_of(n - 1), mixer, feed_forward(norm=a.norm_of("ffn_norm"), gated=False))


PLM = Architecture(
    "plm",
    gguf="plm",
    classes=("PLMForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    activation="relu_squared",
    gated=False,
    rope=SPLIT_HALF,  # the rows that are rotated lie interleaved in every container
    settings=settings,
    readings=first_of(latent_keys_values, standard_readings),
    layer=layer,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_plm.py of PLM-Team/PLM-1.8B-Base
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 2048,
            "feed_forward_length": 8192,
            "attention.head_count": 16,
            "rope.dimension_count": 64,
            "vocab_size": 151936,
            "tied_embeddings": True,
        },
        spellings={
            "rope.dimension_count": "qk_rope_head_dim",
        },
        names=LATENT_KEYS,
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"attention.kv_lora_rank"}),
        factors=frozenset(("attn_output",)),
        keeps_heads=True,
    ),
)
