"""Baichuan 1 and 2: llama with q, k and v in one tensor; the 13B has ALiBi in place of rotary."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, scores_of, sequential
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader

LAYERS_OF_7B, LAYERS_OF_13B = 32, 40  # by which llama.cpp knows them (models/baichuan.cpp)
ALIBI = "attention.max_alibi_bias"


def settings(read: SettingsReader) -> None:
    """ALiBi's largest exponent, of the 13B, and whether positions are rotated: llama.cpp knows by the number of layers,
    and does neither where it is another."""
    layers, note = read.config["block_count"].value, "known by the number of layers"
    read.fixed(ALIBI, 8.0 if layers == LAYERS_OF_13B else 0.0, note)
    rotates = layers == LAYERS_OF_7B if read.container.kind == "gguf" else layers != LAYERS_OF_13B
    read.fixed("rope.layers", rotates, note)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family; rotated, or with scores that fall with distance."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=Rotary(INTERLEAVED, where="rope.layers"),
            scores=scores_of(c, alibi=ALIBI),
        ),
        feed_forward(norm=a.norm_of("ffn_norm")),
    )


BAICHUAN = Architecture(
    "baichuan",
    gguf="baichuan",
    classes=("BaichuanForCausalLM", "BaiChuanForCausalLM", "baichuan-13b"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_baichuan.py of baichuan-inc/Baichuan2-7B-Base
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 125696,
            "tied_embeddings": False,
        },
        names={
            "model.layers.{bid}.self_attn.W_pack": "blk.{bid}.attn_qkv",
        },
    ),
)
