"""Granite 3 and 4 (dense), and the text parts of Granite Vision, Speech and Docling: llama with factors of embedding,
of what each block adds, of scores and logits."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import embedding, head, output_of
from rosetta.architectures.parts.expert_settings import experts_of_gguf
from rosetta.architectures.parts.huggingface import MULTIPLIERS
from rosetta.architectures.parts.mixtures import SHARED, mixture_layer
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader

FACTORS = ("embedding_scale", "residual_scale", "logit_scale")
ROTATED = "rope.scaling.finetuned"  # llama.cpp takes this key for the switch of rope


def settings(read: SettingsReader) -> None:
    """The factors; by the last one the logits are divided. And whether a GGUF turns any layer."""
    published = read.architecture.huggingface.defaults
    for key in FACTORS:
        read.take(key, "number", Default(apr=1.0, gguf=1.0, huggingface=published.get(key, 1.0)))
    if read.container.kind == "huggingface":
        read.number("attention.scale", published.get("attention.scale", 1.0), "default of transformers")
    read.take(ROTATED, "flag", True, note="all layers are turned")
    experts_of_gguf(read)
    if "expert_count" in read.config:
        read.take(SHARED, "count", 0)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, what its blocks add scaled; of experts, in a GGUF that has some."""
    rope = Rotary(INTERLEAVED, where=ROTATED if ROTATED in c else None)
    return mixture_layer(a, c, n, scale="residual_scale", mixer={"rope": rope})


GRANITE = Architecture(
    "granite",
    gguf="granite",
    classes=("GraniteForCausalLM", "granite4_vision_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-5, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Scale("logit_scale", inverse=True), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        defaults={  # transformers, GraniteConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        reads=MULTIPLIERS,
        spellings={"attention.scale": "attention_multiplier"},
        flags={"attention_bias": False, "mlp_bias": False},
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.FACTORS | {"expert_shared_feed_forward_length"},
        keys={"logit_scale": lambda c: c["logit_scale"].value},
    ),
)
GRANITE_DOCLING = replace(
    GRANITE,
    name="granite_docling",
    classes=("GraniteDoclingForConditionalGeneration", "granite_docling_text"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    text_part="granite",
    huggingface=replace(
        GRANITE.huggingface,
        model_type="granite_docling",
        defaults={  # transformers, GraniteDoclingTextConfig
            "block_count": 28,
            "context_length": 32768,
            "embedding_length": 1024,
            "feed_forward_length": 2048,
            "attention.head_count": 16,
            "attention.head_count_kv": 4,
            "vocab_size": 133800,
            "tied_embeddings": True,
            "embedding_scale": 12.0,
            "logit_scale": 4.0,
            "residual_scale": 0.263,
            "attention.scale": 0.015625,
        },
    ),
)
