"""Sarvam-30B: bailingmoe2 in GGUF, whose shared experts and groups transformers runs as GLM-4.5's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rosetta.architectures import Default
from rosetta.architectures.bailingmoe import BAILINGMOE2
from rosetta.architectures.parts.expert_settings import (
    expert_groups,
    expert_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.readings import Centred, Reading, Stored, standard_readings
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sigmoid experts beside shared ones."""
    expert_settings(
        read,
        count=of_folder(128, None),
        used=of_folder(6, None),
        width=of_folder(1024, None),
        gating=of_folder(2, None),
        normalised=of_folder(True, False),
        scale=of_folder(2.5, 1.0),
    )
    expert_groups(read, of_folder(1), of_folder(1))
    shared_expert(read, of_folder(1), "n_shared_experts", "num_shared_experts")
    leading_dense(read, of_folder(1), "first_k_dense_replace")


def readings(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """What is added to the scores for choosing has no mean in GGUF, which changes no choice."""
    found = standard_readings(stored, c)
    if stored.foreign and stored.stem == "exp_probs_b" and stored.dims:
        return [replace(reading, edit=Centred(stored.dims[-1])) for reading in found or ()]
    return found


SARVAM_MOE = replace(
    BAILINGMOE2,
    name="sarvam_moe",
    classes=("SarvamMoEForCausalLM",),
    rope_theta=Default(apr=8e6, gguf=10000.0, huggingface=8e6),
    settings=settings,
    readings=readings,
    huggingface=replace(
        BAILINGMOE2.huggingface,
        run_by="Glm4MoeForCausalLM",
        model_type="sarvam_moe",
        reads=frozenset({"partial_rotary_factor"}),
        in_transformers=True,
        defaults={  # transformers, SarvamMoEConfig
            "block_count": 19,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 8192,
            "attention.head_count": 64,
            "attention.head_count_kv": 4,
            "attention.key_length": 64,
            "vocab_size": 262144,
            "tied_embeddings": False,
        },
        spellings={"expert_count": "n_routed_experts"},
        flags={"attention_bias": False, "use_qk_norm": False},
        names={
            **BAILINGMOE2.huggingface.names,
            "model.layers.{bid}.mlp.gate.expert_bias": "blk.{bid}.exp_probs_b.bias",
        },
    ),
)
