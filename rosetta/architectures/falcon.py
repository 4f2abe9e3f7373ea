"""Falcon: attention and network side by side, of one norm (7B, 11B) or of two (40B, 180B), few heads of keys."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, parallel
from rosetta.architectures.parts.readings import readings_by_key_group
from rosetta.errors import UnsupportedError
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """How many norms a layer has, and how many heads of keys: what two flags of the folder say."""
    if read.container.kind == "gguf":
        own = "blk.0.attn_norm_2.weight" in read.container.tensors
        read.fixed("parallel_norms", 2 if own else 1, "tensors of the layers")
        return
    said = {
        key: read.spelled(key)
        for key in ("alibi", "parallel_attn", "multi_query", "new_decoder_architecture")
    }
    flags = {key: None if setting is None else bool(setting.value) for key, setting in said.items()}
    if flags["alibi"] or flags["parallel_attn"] is False:
        raise UnsupportedError(
            "a falcon with ALiBi, or whose blocks stand one after the other, is not run",
            file=read.container.path,
            remedy="no converter knows it either; ask for it, with the file's config",
        )
    grouped, norms = bool(flags["new_decoder_architecture"]), read.spelled("num_ln_in_parallel_attn")
    read.fixed("parallel_norms", (norms.value if norms else 2) if grouped else 1, "the flags of the folder")
    if not grouped:
        several = flags["multi_query"] is False
        heads = read.config["attention.head_count"].value if several else 1
        read.fixed("attention.head_count_kv", heads, "the flags of the folder")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both blocks read the layer's input, through one norm or through one each."""
    own = c["parallel_norms"] == 2
    return parallel(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm_2" if own else "attn_norm"), rope=Rotary(SPLIT_HALF)),
        feed_forward(norm=a.norm_of("attn_norm") if own else None, gated=False),
    )


FALCON = Architecture(
    "falcon",
    gguf="falcon",
    classes=("FalconForCausalLM", "RWForCausalLM"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu",
    gated=False,
    settings=settings,
    readings=readings_by_key_group,
    layer=layer,
    huggingface=HuggingFace(
        flags={"bias": False},
        defaults={  # transformers, FalconConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4544,
            "attention.head_count": 71,
            "attention.head_count_kv": 71,
            "vocab_size": 65024,
            "tied_embeddings": True,
        },
        spellings={
            "activation": "activation",
            "attention.head_count_kv": "num_kv_heads",
            "feed_forward_length": "ffn_hidden_size",
        },
        names={
            "transformer.h.{bid}.ln_attn": "blk.{bid}.attn_norm_2",
            "transformer.h.{bid}.ln_mlp": "blk.{bid}.attn_norm",
            "transformer.h.{bid}.mlp.dense_4h_to_h": "blk.{bid}.ffn_down",
            "transformer.h.{bid}.mlp.dense_h_to_4h": "blk.{bid}.ffn_up",
            "transformer.h.{bid}.self_attention.dense": "blk.{bid}.attn_output",
            "transformer.h.{bid}.self_attention.query_key_value": "blk.{bid}.attn_qkv",
            "transformer.ln_f": "output_norm",
            "transformer.word_embeddings": "token_embd",
            "transformer.h.{bid}.input_layernorm": "blk.{bid}.attn_norm",
        },
        only_beside={"transformer.h.{bid}.ln_mlp": "blk.{bid}.attn_norm_2"},
    ),
)
