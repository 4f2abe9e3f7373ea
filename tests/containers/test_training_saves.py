"""Saves of training frameworks are refused without being opened, by name and with what makes a folder of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fixtures import build
from rosetta.containers import open_container
from rosetta.errors import RosettaError, UnsupportedError, UsageError
from rosetta.inspection.facts import inspection
from rosetta.model import build_model

PICKLE = b"\x80\x04}."
DEEPSPEED, FSDP, MEGATRON = "is a DeepSpeed checkpoint", "of torch.distributed", "is a Megatron checkpoint"
SAVES = {
    "deepspeed": (
        ["latest", "zero_to_fp32.py", "global_step10/zero_pp_rank_0_mp_rank_00_model_states.pt"],
        rf"{DEEPSPEED}.*zero_to_fp32\.py .* --safe_serialization",
    ),
    "deepspeed, one step": (["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], DEEPSPEED),
    "fsdp": ([".metadata", "__0_0.distcp"], rf"{FSDP}.*accelerate merge-weights"),
    "fsdp, beside the config": (
        ["config.json", "pytorch_model_fsdp_0/__0_0.distcp"],
        rf"{FSDP}.*merge-weights \S*pytorch_model_fsdp_0 OUT",
    ),
    "megatron": (
        ["latest_checkpointed_iteration.txt", "iter_0000010/mp_rank_00/model_optim_rng.pt"],
        MEGATRON,
    ),
    "meta": (["params.json", "consolidated.00.pth"], "is Meta's own form.*convert_llama_weights_to_hf"),
}


@pytest.mark.parametrize(("files", "said"), SAVES.values(), ids=SAVES)
def test_a_save_is_refused_by_name_with_the_way_out(tmp_path: Path, files: list[str], said: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'{"model_type": "llama"}' if name == "config.json" else PICKLE)
    with pytest.raises(UnsupportedError, match=said):
        open_container(tmp_path)


def test_the_last_of_a_trainings_models_is_named(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"whose models lie one below .*checkpoint-100 is the last"):
        open_container(tmp_path)


def test_a_model_one_folder_below_is_named(tmp_path: Path) -> None:
    """AutoRound writes OUT/NAME-w4g128."""
    (tmp_path / "model-w4g128").mkdir()
    (tmp_path / "model-w4g128" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"one folder below: give .*model-w4g128"):
        open_container(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.layers.0.self_attention.linear_qkv.weight",
        "module.decoder.layers.0.mlp.linear_fc1.weight",
        "language_model.encoder.layers.0.self_attention.query_key_value.weight",
    ],
)
def test_megatrons_names_are_said_to_be_its_own(tmp_path: Path, name: str) -> None:
    save_file({name: torch.zeros(8, 8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(UnsupportedError, match=r"has Megatron's name.*Megatron-Bridge"):
        build_model(open_container(tmp_path))
    assert any("Megatron" in note for note in inspection(tmp_path).notes), "it can be looked at all the same"


def test_a_whole_folder_of_a_training_is_read(tmp_path: Path) -> None:
    """A checkpoint of transformers' Trainer has DeepSpeed's shards beside the model."""
    folder = build(tmp_path, "llama", "hf:F32")
    (folder / "global_step10").mkdir()
    try:
        open_container(folder).close()
    except RosettaError as error:
        pytest.fail(str(error))
