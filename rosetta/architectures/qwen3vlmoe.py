"""The text parts of Qwen3-VL-MoE and of what thinks in Qwen3-Omni: qwen3moe, with rotary sections of three kinds of
positions, which are one and the same of a text."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Default
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.expert_settings import INTERLEAVED_SECTIONS, rotary_sections, stepped_layers
from rosetta.architectures.parts.readings import EXPERTS_GATE_UP, Reading, Stored, experts, standard_readings
from rosetta.architectures.qwen3moe import QWEN3MOE
from rosetta.architectures.qwen3vl import deepstack_layers
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader

COUNTS = {
    "expert_count": 60,
    "expert_used_count": 4,
    "expert_feed_forward_length": 1408,
}  # Qwen3VLMoeTextConfig


def settings(read: SettingsReader) -> None:
    """The experts, whose weights always sum to one, and the sections."""
    for key, default in COUNTS.items():
        published = read.architecture.huggingface.defaults.get(key, default)
        read.take(key, "count", Default(apr=published, gguf=None, huggingface=published))
    read.raw("expert_weights_norm")  # transformers' router does not look at norm_topk_prob
    read.fixed("expert_weights_norm", True, "the architecture's")
    stepped_layers(read)
    rotary_sections(read, [24, 20, 20], in_turns=True)


def thinker_settings(read: SettingsReader) -> None:
    """The experts, whose weights a folder may leave unnormalised, and the sections."""
    settings(read)
    if read.container.kind == "huggingface" and "expert_weights_norm" not in read.overrides:
        read.take("expert_weights_norm", "flag", True)


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """Folders of before transformers 5 store each expert's matrix `[in, out]`."""
    if stored.foreign and len(stored.dims) == 3 and stored.stem in ("ffn_gate_up_exps", "ffn_down_exps"):
        hidden, width = c["embedding_length"], c["expert_feed_forward_length"]
        out, into = (2 * width, hidden) if stored.stem == "ffn_gate_up_exps" else (hidden, width)
        turned = stored.dims[1:] == (into, out)
        if turned and into == out:  # a square one does not tell
            turned = str(stored.metadata.get("transformers_version", "")).startswith("4.")
        stems = EXPERTS_GATE_UP if stored.stem == "ffn_gate_up_exps" else None
        return experts(stored, stems, transposed=turned)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


QWEN3VLMOE = replace(
    QWEN3MOE,
    name="qwen3vlmoe",
    gguf="qwen3vlmoe",
    classes=("Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", "qwen3_vl_moe_text"),
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    settings=settings,
    text_part="qwen3moe",
    readings=readings,
    huggingface=replace(
        QWEN3MOE.huggingface,
        model_type="qwen3_vl_moe",
        defaults={  # transformers, Qwen3VLMoeTextConfig
            "block_count": 24,
            "context_length": 128000,
            "embedding_length": 2048,
            "feed_forward_length": 5632,
            "attention.head_count": 16,
            "attention.head_count_kv": 16,
            "vocab_size": 151936,
            "tied_embeddings": True,
        },
        keys=INTERLEAVED_SECTIONS,
    ),
    llamacpp=replace(
        QWEN3MOE.llamacpp,
        reads=frozenset({"expert_feed_forward_length", "rope.dimension_sections"}),
        sight={"n_deepstack_layers": deepstack_layers},
        factors=factors.ATTENTION,
    ),
)
QWEN3_OMNI_MOE = replace(
    QWEN3VLMOE,
    name="qwen3_omni_moe",
    classes=(
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3OmniMoeThinkerForConditionalGeneration",
        "qwen3_omni_moe",
        "qwen3_omni_moe_thinker",
        "qwen3_omni_moe_text",
    ),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=10000.0),
    settings=thinker_settings,
    huggingface=replace(
        QWEN3VLMOE.huggingface,
        model_type="qwen3_omni_moe",
        defaults={  # transformers, Qwen3OmniMoeTextConfig
            "block_count": 28,
            "context_length": 32768,
            "embedding_length": 2048,
            "feed_forward_length": 18944,
            "attention.head_count": 28,
            "attention.head_count_kv": 4,
            "expert_count": 128,
            "expert_used_count": 8,
            "expert_feed_forward_length": 768,
            "vocab_size": 3584,
            "tied_embeddings": False,
        },
    ),
    llamacpp=replace(QWEN3VLMOE.llamacpp, sight={}),
)
