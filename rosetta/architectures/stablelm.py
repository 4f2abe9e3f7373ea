"""StableLM 2: llama with LayerNorms and a quarter of each head rotated; the 12B has its blocks side by side and norms
each head of q and k by weights of its own."""

from __future__ import annotations

from typing import Any

from rosetta.architectures.architecture import Architecture, Default
from rosetta.architectures.builders import attention, feed_forward, output_of, parallel, sequential
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary


def settings(read: Any) -> None:
    """Whether the blocks stand side by side: in llama.cpp, where the second norm is missing."""
    if read.container.kind == "gguf":
        side_by_side = "blk.0.ffn_norm.weight" not in read.container.tensors
        read.fixed("use_parallel_residual", side_by_side, "tensors of the layers")
    else:
        read.take("use_parallel_residual", "flag", False)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention and a gated network, one after the other or behind one norm."""
    both = c["use_parallel_residual"]
    arranged = parallel if both else sequential
    return arranged(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF)),
        feed_forward(norm=None if both else a.norm_of("ffn_norm")),
    )


STABLELM = Architecture(
    "stablelm",
    gguf="stablelm",
    classes=("StableLmForCausalLM", "StableLMEpochForCausalLM", "stablelm_epoch"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    layer=layer,
    huggingface={  # transformers, StableLmConfig
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
)
