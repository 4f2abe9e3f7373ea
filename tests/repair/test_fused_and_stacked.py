"""Tensors that hold several weights, gate beside up or the experts of a layer: repaired, and left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import write_canonical
from fixtures.recipes import build_folder
from rosetta.model import open_model
from rosetta.repair.layout import repaired_layout
from tests.repair.conftest import Repair, changed, tensors

pytestmark = pytest.mark.requires_transformers
TOKENS = ("--tokens", "5,9,17,33,2,8,40,100,7,31,64,12,3,3,90,21")
HOLDING_SEVERAL = [
    ("qwen3moe", "hf"), ("qwen3moe", "gguf"), ("phi3", "hf"), ("phi3", "gguf"), ("gptneox", "hf"),
    ("gpt-oss", "hf"), ("deepseek2-v2-lite", "hf"), ("granitemoe", "hf"),
]  # fmt: skip
Values = NDArray[np.float32]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A recipe's model as a folder or as a GGUF file, built once in this process."""
    place = tmp_path_factory.mktemp("several")

    @cache
    def make(name: str, kind: str) -> Path:
        if kind == "hf":
            return build_folder(place / name, RECIPES[name])
        return write_canonical(place / f"{name}.gguf", open_model(make(name, "hf")))

    return make


def damaged(path: Path, target: Path, tensor: str, edit: Callable[[Values], Any]) -> Path:
    """A copy of a model of which one tensor, in float32, was edited in place."""
    if path.is_dir():
        copytree(path, target)
        file = target / "model.safetensors"
        held = load_file(file)
        edit(held[tensor].numpy())
        save_file({name: x.contiguous() for name, x in held.items()}, file, {"format": "pt"})
    else:
        copy(path, target)
        reader = gguf.GGUFReader(target, "r+")
        edit(next(t for t in reader.tensors if t.name == tensor).data)
        del reader
    return target


@pytest.mark.parametrize(("name", "kind"), HOLDING_SEVERAL)
def test_what_is_whole_is_copied_whole(built: Callable[[str, str], Path], name: str, kind: str) -> None:
    model = open_model(built(name, kind))
    layout = repaired_layout(model, model.weights, {})
    assert [planned.name for planned in layout.tensors] == list(model.container.tensors), "none is added"
    assert all(planned.is_copied for planned in layout.tensors)
    assert layout.dropped == ()


def zeroed(expert: int) -> Callable[[Values], None]:
    def edit(values: Values) -> None:
        values[expert, 3:9] = 0

    return edit


def doubled(values: Values) -> None:
    values *= 2


def rolled(values: Values) -> None:
    values[:] = np.roll(values, 1, axis=0)


def negated(rows: slice) -> Callable[[Values], None]:
    def edit(values: Values) -> None:
        values[rows] *= -1

    return edit


def one_turned(expert: int) -> Callable[[Values], None]:
    def edit(values: Values) -> None:
        values[expert] = values[expert].T.reshape(values[expert].shape).copy()

    return edit


CASES: dict[str, tuple[str, str, str, Callable[[Values], None]]] = {
    "norm beside experts": ("qwen3moe", "gguf", "blk.1.ffn_norm.weight", doubled),
    "rows of an expert": ("qwen3moe", "gguf", "blk.1.ffn_up_exps.weight", zeroed(5)),
    "sign of an expert": ("qwen3moe", "gguf", "blk.0.ffn_gate_exps.weight", negated(slice(2, 3))),
    "turned expert": ("qwen3moe", "gguf", "blk.1.ffn_gate_exps.weight", one_turned(4)),
    "order of experts": ("qwen3moe", "gguf", "blk.1.ffn_down_exps.weight", rolled),
    "norm beside fused": ("phi3", "gguf", "blk.1.attn_norm.weight", doubled),
    "gate of a fused": ("phi3", "gguf", "blk.1.ffn_up.weight", negated(slice(0, 96))),
    "keys of a fused": ("phi3", "hf", "model.layers.1.self_attn.qkv_proj.weight", negated(slice(64, 96))),
    "gate of a fused, in a folder": (
        "phi3", "hf", "model.layers.1.mlp.gate_up_proj.weight", negated(slice(0, 96))),
    "a head's keys, in a folder": (
        "gptneox", "hf", "gpt_neox.layers.1.attention.query_key_value.weight", negated(slice(16, 32))),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_the_one_wrong_tensor_is_given_back(
    built: Callable[[str, str], Path], tmp_path: Path, repair: Repair, what: str
) -> None:
    name, kind, tensor, edit = CASES[what]
    clean = built(name, kind)
    wrong = damaged(clean, tmp_path / f"wrong{clean.suffix}", tensor, edit)
    assert changed(tensors(clean), tensors(wrong)) == {tensor}
    run = repair(wrong, clean, "--reference", "right", *TOKENS)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed) == tensors(clean)
    assert f"  {tensor}: " in run.out


@pytest.mark.parametrize("name", ["qwen3moe", "phi3"])
def test_a_setting_is_repaired_and_no_tensor_is_touched(
    built: Callable[[str, str], Path], tmp_path: Path, repair: Repair, name: str
) -> None:
    clean = built(name, "hf")
    wrong = copytree(clean, tmp_path / "wrong")
    config = json.loads((wrong / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500.0
    (wrong / "config.json").write_text(json.dumps(config))
    run = repair(wrong, clean, "--reference", "right", *TOKENS)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed) == tensors(clean)
    assert json.loads((run.fixed / "config.json").read_text())["rope_parameters"]["rope_theta"] == 10000.0


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_nothing_is_added_to_any_architecture(built: Callable[[str, str], Path], name: str) -> None:
    try:
        path = built(name, "hf")
    except ValueError:
        pytest.skip("transformers has no causal model of it")
    model = open_model(path)
    layout = repaired_layout(model, model.weights, {})
    assert [planned.name for planned in layout.tensors] == list(model.container.tensors)
    assert all(planned.is_copied for planned in layout.tensors)
