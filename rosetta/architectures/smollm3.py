"""SmolLM3: llama without rotary in every fourth layer."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, scores_of, sequential
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader

STEP = 4  # llama.cpp, models/smollm3.cpp


def settings(read: SettingsReader) -> None:
    """Which layers rotate their queries and keys."""
    layers, stated = range(read.config["block_count"].value), read.spelled("no_rope_layers")
    step = read.spelled("no_rope_layer_interval")
    every = step.value if step is not None and type(step.value) is int and step.value > 0 else STEP
    rotates = [(layer + 1) % every != 0 for layer in layers]
    if stated is not None and isinstance(stated.value, list) and len(stated.value) >= len(layers):
        rotates = [bool(stated.value[layer]) for layer in layers]
    read.by_layer("rope.layers", rotates)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, rotated or not."""
    rope = Rotary(INTERLEAVED, where="rope.layers")
    return sequential(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=rope, scores=scores_of(c)),
        feed_forward(norm=a.norm_of("ffn_norm")),
    )


SMOLLM3 = Architecture(
    "smollm3",
    gguf="smollm3",
    classes=("SmolLM3ForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    rope_theta=Default(apr=2e6, gguf=10000.0, huggingface=2e6),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, SmolLM3Config
            "block_count": 36,
            "context_length": 32768,
            "embedding_length": 2048,
            "feed_forward_length": 11008,
            "attention.head_count": 16,
            "attention.head_count_kv": 4,
            "vocab_size": 128256,
            "tied_embeddings": True,
        },
        flags={"attention_bias": False, "mlp_bias": False},
    ),
)
