"""A number that a folder has as a setting and a GGUF as a tensor full of it: told from a tensor that is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_causes
from fixtures.comparing import compared_files
from fixtures.recipes import build_folder
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.report.report import Report

pytestmark = pytest.mark.requires_transformers
FACTOR, TENSOR = "qk_scale_factor", "attn_q_norm.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("muse")
    folder = build_folder(place / "hf", RECIPES["muse-glimmer"])
    convert(str(folder), place / "plain.gguf", Options(diagnose=False), verify=False)
    return folder, with_norms(place / "plain.gguf", place / "model.gguf", as_float32(text_of(folder)[FACTOR]))


def text_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["text_config"]
    return found


def with_norms(plain: Path, target: Path, factor: float) -> Path:
    """A GGUF as llama.cpp's converter writes it: the factor of the queries is a tensor full of it."""
    reader = gguf.GGUFReader(plain)
    writer = gguf.GGUFWriter(target, "muse-glimmer")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind, array = field.types[0], field.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if array else None)
    for tensor in reader.tensors:
        if not tensor.name.endswith(("attn_q_norm.weight", "attn_k_norm.weight")):
            writer.add_tensor(tensor.name, tensor.data)
    size, layers = (
        reader.fields[f"muse-glimmer.{key}"].contents() for key in ("attention.key_length", "block_count")
    )
    for part, number in (("q", factor), ("k", 1.0)):
        for n in range(layers):
            writer.add_tensor(f"blk.{n}.attn_{part}_norm.weight", np.full(size, number, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_sound_pair_is_clean(sound: tuple[Path, Path]) -> None:
    report = compared_files(*sound)
    assert (report.verdict, report.findings) == ("match", [])


def test_setting_that_is_lost_is_named(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "hf"
    broken.mkdir()
    for file in sound[0].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    factor, config["text_config"][FACTOR] = config["text_config"][FACTOR], 1.0
    (broken / "config.json").write_text(json.dumps(config))
    report = compared_files(broken, sound[1])
    cause = Cause("config.attention_scale", "attention.query_scale", declared=1.0, actual=as_float32(factor))
    assert_causes(report, cause)


def test_tensor_full_of_another_number_is_scaled(sound: tuple[Path, Path], tmp_path: Path) -> None:
    report = with_tensor_of(1.0, *sound, tmp_path)
    text = text_of(sound[0])
    wrong = 1 / as_float32(text[FACTOR])
    layers = range(text["num_hidden_layers"])
    causes = [Cause("value.scaled", f"blk.{n}.{TENSOR}", declared=1.0, actual=wrong) for n in layers]
    assert_causes(report, *causes)


def test_believed_side_is_not_said_to_lack_it(sound: tuple[Path, Path], tmp_path: Path) -> None:
    assert all(found.side == "left" for found in with_tensor_of(2.0, *sound, tmp_path).findings)


def as_float32(value: float) -> float:
    return float(torch.tensor(value))


def with_tensor_of(number: float, folder: Path, whole: Path, place: Path) -> Report:
    """The report of a GGUF whose queries are multiplied by another number, beside its folder."""
    broken = place / "model.gguf"
    broken.write_bytes(whole.read_bytes())
    reader = gguf.GGUFReader(broken, "r+")
    for tensor in reader.tensors:
        if tensor.name.endswith(TENSOR):
            tensor.data[...] = number
    reader.data.flush()
    return compared_files(broken, folder)
