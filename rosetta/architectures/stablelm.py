"""StableLM 2: llama with LayerNorms and a quarter of each head rotated; the 12B has its blocks side by side and norms
each head of q and k by weights of its own."""

from __future__ import annotations

from collections.abc import Callable

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.builders import (
    HEADS,
    KEY,
    KV_HEADS,
    attention,
    feed_forward,
    output_of,
    parallel,
    sequential,
)
from rosetta.architectures.parts.readings import Reading, Stored, experts, standard_readings
from rosetta.graph import Stage
from rosetta.ops.norm import HeadNorms
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader

MOST_HEADS = 128  # that names are made for; published models have 40


def settings(read: SettingsReader) -> None:
    """Whether the blocks stand side by side: in llama.cpp, where the second norm is missing."""
    if read.container.kind == "gguf":
        side_by_side = "blk.0.ffn_norm.weight" not in read.container.tensors
        read.fixed("use_parallel_residual", side_by_side, "tensors of the layers")
    else:
        read.take("use_parallel_residual", "flag", False)


def head_norm(a: Architecture) -> Callable[[str], HeadNorms]:
    """Stem of the norms of q or of k -> these, one a head."""
    heads = {"attn_q_norm": HEADS, "attn_k_norm": KV_HEADS}
    return lambda stem: HeadNorms(
        stem, a.epsilon_key, width=(KEY,), kind="layer", bias=False, heads=heads[stem]
    )


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """GGUF has the norms of all heads in one tensor, a folder a tensor each."""
    if stored.stem in ("attn_q_norm", "attn_k_norm") and len(stored.dims) == 2:
        return experts(stored)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention and a gated network, one after the other or behind one norm."""
    both = c["use_parallel_residual"]
    arranged = parallel if both else sequential
    return arranged(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF), head_norm=head_norm(a)),
        feed_forward(norm=None if both else a.norm_of("ffn_norm")),
    )


STABLELM = Architecture(
    "stablelm",
    gguf="stablelm",
    classes=("StableLmForCausalLM", "StableLMEpochForCausalLM", "stablelm_epoch"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"rope_pct"}),
        defaults={  # transformers, StableLmConfig
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 2560,
            "feed_forward_length": 6912,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 50304,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.25,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
        },
        flags={"use_qkv_bias": False, "qk_layernorm": False},
        names={
            f"model.layers.{{bid}}.self_attn.{part}_layernorm.norms.{head}": f"blk.{{bid}}.attn_{part}_norm.{head}"
            for part in "qk"
            for head in range(MOST_HEADS)
        },
    ),
)
