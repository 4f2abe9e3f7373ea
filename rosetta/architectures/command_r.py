"""Command R (Cohere): attention and network side by side behind one norm, logits times a factor; Command R+ norms each
head of q and k by weights of its own."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    attention,
    feed_forward,
    head,
    head_norms,
    output_of,
    parallel,
)
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The factor of the logits."""
    read.take("logit_scale", "number", Default(apr=1.0, gguf=1.0, huggingface=0.0625))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both blocks read the same norm."""
    return parallel(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=Rotary(INTERLEAVED),
            head_norm=head_norms(a.epsilon_key, "layer"),
        ),
        feed_forward(norm=None),
    )


COMMAND_R = Architecture(
    "command-r",
    gguf="command-r",
    classes=("CohereForCausalLM", "cohere"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    rope_theta=Default(apr=10000.0, gguf=10000.0, huggingface=5e5),
    settings=settings,
    layer=layer,
    after=lambda a, layers: head(output_of(layers - 1), Scale("logit_scale"), norm=a.norm_of("output_norm")),
    huggingface=HuggingFace(
        model_type="cohere",
        defaults={  # transformers, CohereConfig
            "block_count": 40,
            "context_length": 8192,
            "embedding_length": 8192,
            "feed_forward_length": 22528,
            "attention.head_count": 64,
            "attention.head_count_kv": 64,
            "vocab_size": 256000,
            "tied_embeddings": True,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "logit_scale": "logit_scale",
        },
        flags={"attention_bias": False, "use_qk_norm": False},
        rope=INTERLEAVED,
    ),
    llamacpp=LlamaCpp(reads=frozenset({"logit_scale"})),
)
