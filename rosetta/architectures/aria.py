"""The text part of Aria: llama with experts in each layer, weighed by a softmax of the chosen scores, beside shared
ones. No GGUF has it: llama.cpp does not know the model."""

from __future__ import annotations

from collections.abc import Sequence

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder
from rosetta.architectures.parts.folder_names import gated, in_layers
from rosetta.architectures.parts.mixtures import SHARED, mixture_layer
from rosetta.architectures.parts.readings import EXPERTS_GATE_UP, Reading, Stored, experts, standard_readings
from rosetta.containers.container import Setting
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The experts, as wide as a dense network would be, and how many more serve all tokens."""
    expert_settings(read, count=of_folder(8), used=of_folder(2), like_dense=True)
    width, counted = read.config["feed_forward_length"].value, read.spelled("moe_num_shared_experts")
    stated = None if counted is None else Setting(counted.value * width, counted.key)
    read.put(
        SHARED, read.raw(SHARED) or stated, 2 * width, "of as many shared experts as the architecture has"
    )


def readings(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """A folder stores each expert's matrices `[in, out]`, gate and up in one."""
    if stored.foreign and stored.stem in ("ffn_gate_up_exps", "ffn_down_exps"):
        return experts(
            stored, EXPERTS_GATE_UP if stored.stem == "ffn_gate_up_exps" else None, transposed=True
        )
    return standard_readings(stored, c)


ARIA = Architecture(
    "aria",
    gguf="aria",
    classes=("AriaTextForCausalLM", "AriaForConditionalGeneration", "aria_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    settings=settings,
    layer=mixture_layer,
    readings=readings,
    huggingface=HuggingFace(
        model_type="aria_text",
        defaults={  # transformers, AriaTextConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 4096,
            "attention.head_count": 32,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        spellings={"expert_count": "moe_num_experts", "expert_used_count": "moe_topk"},
        flags={"attention_bias": False, "mlp_bias": False},
        names={
            **gated("mlp.shared_experts", "_shexp"),
            **in_layers(
                {
                    "mlp.router": "ffn_gate_inp",
                    "mlp.experts.fc1": "ffn_gate_up_exps",
                    "mlp.experts.fc2": "ffn_down_exps",
                }
            ),
        },
    ),
)
