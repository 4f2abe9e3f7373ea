"""The text part of ERNIE 4.5 VL: ERNIE 4.5 MoE, beside whose experts stand as many more that are for images alone. No
GGUF has it: llama.cpp's converter does not know the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rosetta.architectures.ernie4_5_moe import ERNIE4_5_MOE, sparse_layers
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder, shared_expert
from rosetta.architectures.parts.readings import Reading, Stored, standard_readings
from rosetta.containers.container import Setting
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader

WIDTH = "expert_feed_forward_length"


def settings(read: SettingsReader) -> None:
    """The experts of a text: where config.json lists a size for each kind of token, text comes first."""
    expert_settings(read, count=of_folder(64, None), used=of_folder(6, None), like_dense=True)
    stated = read.raw(WIDTH)
    width = of_text(stated.value) if stated is not None else 1536
    read.put(WIDTH, None if stated is None else Setting(width, stated.key), width, "default of transformers")
    shared_expert(read, of_folder(2), "moe_num_shared_experts")
    sparse_layers(read)


def of_text(stated: Any) -> Any:
    """A value that may be one for each kind of token."""
    return stated[0] if isinstance(stated, list | tuple) and stated else stated


def readings(stored: Stored, c: Settings) -> Sequence[Reading] | None:
    """A folder stores the matrix that scores experts `[in, out]`, and what is added to the scores of a text before what
    is added to those of an image."""
    if stored.foreign and stored.stem == "ffn_gate_inp":
        turned = stored.dims == (c["embedding_length"], c["expert_count"])
        return [Reading("ffn_gate_inp.weight", transposed=turned)]
    if stored.stem == "exp_probs_b" and len(stored.dims) == 2:
        return [Reading("exp_probs_b.bias", slot=(0, stored.dims[0]), dims=stored.dims[1:])]
    return standard_readings(stored, c)


ERNIE4_5_VL_MOE = replace(
    ERNIE4_5_MOE,
    name="ernie4_5_vl_moe",
    classes=(
        "Ernie4_5_VLMoeForConditionalGeneration",
        "Ernie4_5_VL_MoeForConditionalGeneration",
        "ernie4_5_vl_moe",
        "ernie4_5_vl_moe_text",
        "ernie4_5_moe_vl",
    ),
    settings=settings,
    readings=readings,
    text_part="ernie4_5-moe",
    huggingface=replace(
        ERNIE4_5_MOE.huggingface,
        model_type="ernie4_5_vl_moe",
        parameters={
            "model.layers.{bid}.mlp.moe_statics.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias"
        },
        dims={},
    ),
)
