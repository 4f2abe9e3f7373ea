"""HyperCLOVA X, alone and as the text part of HyperCLOVA X Vision: granite whose logits are multiplied, and whose
blocks are normed once more before they are added. No GGUF has it: llama.cpp does not know the model."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Architecture, Default
from rosetta.architectures.granite import FACTORS, GRANITE
from rosetta.architectures.parts.builders import (
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    rotary_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.folder_names import in_layers
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import SPLIT_HALF
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The factors; without one, scores are scaled by the heads' width."""
    for key in FACTORS:
        read.take(key, "number", 1.0)
    standard = read.config["attention.key_length"].value ** -0.5
    read.number("attention.scale", standard, "default of transformers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention and a gated network, each normed before, and after where there are such norms; what they add scaled."""
    after_attention, after_network = (
        replace(a.norm_of(stem), optional=True) for stem in ("post_attention_norm", "post_ffw_norm")
    )
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=rotary_of(c, SPLIT_HALF),
            scores=scores_of(c),
            post_norm=after_attention,
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), post_norm=after_network),
        scale="residual_scale",
    )


HYPERCLOVAX = Architecture(
    "hyperclovax",
    gguf="hyperclovax",
    classes=(
        "HyperCLOVAXForCausalLM",
        "HyperCLOVAXVisionV2ForConditionalGeneration",
        "hyperclovax_vision_v2",
    ),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    settings=settings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(output_of(layers - 1), Scale("logit_scale"), norm=a.norm_of("output_norm")),
    huggingface=replace(
        GRANITE.huggingface,  # whose config class its own is made of
        flags={"attention_bias": False, "mlp_bias": False, "use_post_norm": True},
        names=in_layers(
            {
                "post_attention_layernorm": "ffn_norm",
                "post_norm1": "post_attention_norm",
                "post_norm2": "post_ffw_norm",
            }
        ),
    ),
)
