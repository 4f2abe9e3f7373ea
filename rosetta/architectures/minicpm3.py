"""MiniCPM 3: latent attention whose rotated rows lie in split-half order, and the factors of MiniCPM."""

from __future__ import annotations

import math

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    embedding,
    feed_forward,
    head,
    latent_attention,
    output_of,
    sequential,
)
from rosetta.architectures.parts.expert_settings import latent_epsilon, latent_settings
from rosetta.architectures.parts.folder_names import LATENT_KEYS, LATENT_QUERIES
from rosetta.architectures.parts.readings import first_of, latent_keys_values, standard_readings
from rosetta.graph import Stage
from rosetta.ops.latent import latent_norm
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader

EMBEDDING, DEPTH, BASE = 12.0, 1.4, 256  # llama.cpp, models/minicpm3.cpp: fixed there


def settings(read: SettingsReader) -> None:
    """Sizes of latent attention, and the factors, which no GGUF file holds and llama.cpp has fixed."""
    width, layers = read.config["embedding_length"].value, read.config["block_count"].value
    value = width // read.config["attention.head_count"].value  # MiniCPM3Config
    latent_settings(read, query_rank=768, rank=256, own=64, value=value)
    latent_epsilon(read)
    length = read.config["attention.key_length"].value
    read.fixed("attention.scale", 1 / math.sqrt(length), "1/√(key length)")
    said = {
        key: read.spelled(key) if read.container.kind != "gguf" else None
        for key in ("scale_emb", "scale_depth", "dim_model_base")
    }
    stated = {key: setting.value for key, setting in said.items() if setting is not None}
    note = "fixed in llama.cpp" if read.container.kind == "gguf" else "keys of the folder"
    depth, base = stated.get("scale_depth", DEPTH), stated.get("dim_model_base", BASE)
    read.fixed("embedding_scale", float(stated.get("scale_emb", EMBEDDING)), note)
    read.fixed("residual_scale", depth / math.sqrt(layers), note)
    read.fixed("logit_scale", width / base, note)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Latent attention, then a gated network, what both add scaled."""
    mixer = latent_attention(
        norm=a.norm_of("attn_norm"),
        rope=Rotary(SPLIT_HALF, last=True),
        latent_norm=latent_norm,
        low_rank_queries=c["attention.q_lora_rank"] > 0,
    )
    return sequential(
        output_of(n - 1), mixer, feed_forward(norm=a.norm_of("ffn_norm")), scale="residual_scale"
    )


MINICPM3 = Architecture(
    "minicpm3",
    gguf="minicpm3",
    classes=("MiniCPM3ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    readings=first_of(latent_keys_values, standard_readings),
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Scale("logit_scale", inverse=True), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        defaults={  # transformers, MiniCPM3Config
            "block_count": 62,
            "context_length": 32768,
            "embedding_length": 2560,
            "feed_forward_length": 6400,
            "attention.head_count": 40,
            "attention.head_count_kv": 40,
            "rope.dimension_count": 32,
            "vocab_size": 73448,
            "tied_embeddings": True,
        },
        spellings={
            "rope.dimension_count": "qk_rope_head_dim",
        },
        keys={
            "scale_emb": lambda c: c["embedding_scale"].value,
            "scale_depth": lambda c: c["residual_scale"].value * math.sqrt(c["block_count"].value),
            "dim_model_base": lambda c: round(c["embedding_length"].value / c["logit_scale"].value),
        },
        flags={"attention_bias": False, "mlp_bias": False},
        names={
            **LATENT_KEYS,
            **LATENT_QUERIES,
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"attention.kv_lora_rank", "attention.q_lora_rank"}),
        factors=frozenset(("attn_output",)),
        keeps_heads=True,
    ),
)
