"""An index may name what no file holds: refused where the model needs it, noted where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fixtures import pair
from fixtures.comparing import compared_files
from rosetta.errors import DamagedFileError
from rosetta.model import open_model

INDEX = "model.safetensors.index.json"


def named(folder: Path, tensor: str) -> None:
    """Name a tensor in the index, in the file of the last one that it has."""
    table = json.loads((folder / INDEX).read_text())
    table["weight_map"][tensor] = list(table["weight_map"].values())[-1]
    (folder / INDEX).write_text(json.dumps(table))


def taken_out(folder: Path, tensor: str) -> None:
    """Take a tensor out of its file and leave it in the index."""
    file = folder / json.loads((folder / INDEX).read_text())["weight_map"][tensor]
    save_file({key: value for key, value in load_file(file).items() if key != tensor}, file)


@pytest.mark.parametrize(
    "tensor", ["model.layers.7.self_attn.q_proj.weight", "mtp.fc.weight", "vision.blocks.0.attn.qkv.weight"]
)
def test_an_entry_that_no_stage_needs_is_noted(tmp_path: Path, tensor: str) -> None:
    left, right = pair(tmp_path, "llama", "hf-sharded:F32", "gguf:F32")
    named(left, tensor)
    report = compared_files(left, right)
    assert report.verdict == "match"
    assert [note for note in report.notes if tensor in note and "weight_map" in note]


@pytest.mark.parametrize(
    "tensor",
    ["model.layers.0.self_attn.k_proj.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"],
)
def test_an_entry_that_a_stage_needs_is_refused(tmp_path: Path, tensor: str) -> None:
    folder, _ = pair(tmp_path, "qwen2", "hf-sharded:F32", "gguf:F32")
    taken_out(folder, tensor)
    with pytest.raises(DamagedFileError, match=rf"'{tensor}'.*where the index has it"):
        open_model(folder)


def test_a_part_of_a_fused_tensor_is_needed(tmp_path: Path) -> None:
    folder, _ = pair(tmp_path, "gpt2", "hf-sharded:F32", "gguf:F32")
    tensor = next(
        t for t in json.loads((folder / INDEX).read_text())["weight_map"] if t.endswith("c_attn.weight")
    )
    taken_out(folder, tensor)
    with pytest.raises(DamagedFileError, match="where the index has it"):
        open_model(folder)
