"""Granite 3 and 4 MoE: llama with experts, and factors of embedding, residual, attention and logits."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import embedding, head, output_of
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder
from rosetta.architectures.parts.folder_names import in_layers
from rosetta.architectures.parts.huggingface import MULTIPLIERS
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.architectures.parts.readings import GATE_UP, Reading, Stored, fused, standard_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.settings_reader import SettingsReader

SHARED = "expert_shared_feed_forward_length"


def settings(read: SettingsReader) -> None:
    """The experts and the factors."""
    shared_settings(read)
    if read.container.kind == "huggingface":
        read.fixed(SHARED, 0, "the class has none")


def shared_settings(read: SettingsReader) -> None:
    """Those of the class that has a shared expert."""
    expert_settings(read, count=of_folder(8), used=of_folder(2), like_dense=True)
    read.take(SHARED, "count", 0, ("shared_intermediate_size",))
    for key, gguf in (("embedding_scale", 1.0), ("residual_scale", 1.0), ("logit_scale", None)):
        read.take(key, "number", of_folder(1.0, gguf))
    if read.container.kind == "huggingface":
        read.number("attention.scale", 1.0, "default of transformers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then experts, each added times a factor."""
    return mixture_layer(a, c, n, scale="residual_scale")


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """The shared expert's gate and up lie in one tensor of a folder."""
    if stored.stem == "ffn_gate_up_shexp":
        gate, up = (f"{stem}_shexp" for stem in GATE_UP)
        width = stored.dims[0] // 2 if stored.dims else 0
        return fused(stored, (gate, up), (width, width))
    found = standard_readings(stored, c)
    return None if found is None else list(found)


NAMES = in_layers(
    {
        "block_sparse_moe.input_linear": "ffn_gate_up_exps",
        "block_sparse_moe.output_linear": "ffn_down_exps",
        "block_sparse_moe.router.layer": "ffn_gate_inp",
    }
)
SHARED_NAMES = in_layers(
    {"shared_mlp.input_linear": "ffn_gate_up_shexp", "shared_mlp.output_linear": "ffn_down_shexp"}
)
GRANITE_MOE = Architecture(
    "granitemoe",
    gguf="granitemoe",
    classes=("GraniteMoeForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    readings=readings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Scale("logit_scale", inverse=True), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        defaults={  # transformers, GraniteMoeConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        reads=MULTIPLIERS,
        spellings={
            "attention.scale": "attention_multiplier",
            "expert_count": "num_local_experts",
        },
        flags={"attention_bias": False},
        names=NAMES,
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.FACTORS | {"expert_shared_feed_forward_length"},
        keys={"logit_scale": lambda c: c["logit_scale"].value},
    ),
)
GRANITE_MOE_SHARED = replace(
    GRANITE_MOE,
    name="granitemoeshared",
    classes=("GraniteMoeSharedForCausalLM",),
    settings=shared_settings,
    huggingface=replace(
        GRANITE_MOE.huggingface,
        spellings={**GRANITE_MOE.huggingface.spellings, SHARED: "shared_intermediate_size"},
        names={**NAMES, **SHARED_NAMES},
    ),
)
