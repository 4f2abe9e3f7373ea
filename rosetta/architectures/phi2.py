"""Phi-1 to Phi-2: attention and network side by side behind one LayerNorm, a part of each head rotated, biases
everywhere."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, parallel
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """No norms of heads, which a folder may have and no published one has; a flag that claims them of a folder without
    is a finding."""
    if any(".q_layernorm." in name for name in read.container.tensors):
        read.refuse_others({"qk_layernorm": (False,)})


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both blocks read the same norm."""
    return parallel(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF)),
        feed_forward(norm=None, gated=False),
    )


PHI2 = Architecture(
    "phi2",
    gguf="phi2",
    classes=("PhiForCausalLM", "phi"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="phi",
        defaults={  # transformers, PhiConfig
            "block_count": 24,
            "context_length": 2048,
            "embedding_length": 2048,
            "feed_forward_length": 8192,
            "attention.head_count": 32,
            "vocab_size": 51200,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.5,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
        },
        flags={"qk_layernorm": False},
        names={
            "model.final_layernorm": "output_norm",
            "model.layers.{bid}.mlp.fc1": "blk.{bid}.ffn_up",
            "model.layers.{bid}.mlp.fc2": "blk.{bid}.ffn_down",
            "model.layers.{bid}.self_attn.dense": "blk.{bid}.attn_output",
        },
    ),
    llamacpp=LlamaCpp(scales_queries=True),
)
