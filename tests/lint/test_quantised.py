"""Quantised folders: every rule looks at them as at others, and at the scales beside the codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures import build, packing
from fixtures.comparing import compared_files, tiny
from rosetta.lint.engine import linted, selected_rules
from rosetta.lint.rule import Found

OWN = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the others are quantised from."""
    spec = tiny("llama", hidden=128, ffn=192, tied=False)
    return build(tmp_path_factory.mktemp("plain"), spec, "hf:BF16")


def found_in(folder: Path) -> list[Found]:
    """All that the rules find, values too."""
    return list(linted(folder, rules=selected_rules(), values=True))


@pytest.mark.parametrize("scheme", packing.SCHEMES)
def test_a_quantised_folder_breaks_no_rule(tmp_path: Path, plain: Path, scheme: str) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[scheme])
    assert [found.line() for found in found_in(folder)] == []


def spoilt(ending: str, value: float | int, at: int) -> packing.Change:
    """One number of a part of a weight replaced."""

    def change(name: str, tensors: packing.Tensors) -> packing.Tensors:
        if name != OWN:
            return tensors
        part = tensors[ending].clone()
        flat = part.view(torch.uint8) if isinstance(value, int) else part
        flat.view(-1)[at] = value
        return {**tensors, ending: part}

    return change


SPOILT = {
    "scale of gptq": ("gptq", ".scales", float("nan"), 7, 14),
    "scale of fp8": ("fp8 rows", ".weight_scale", float("inf"), 3, 12),
    "code of fp8": ("fp8 blocks", ".weight", 0x7F, 9, 9),
    "magnitude of bitsandbytes": ("bnb nf4", ".weight.absmax", float("nan"), 2, 8),
    "bias of mlx": ("mlx 4 bits", ".biases", float("inf"), 5, 10),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_no_number_is_found_in_its_part_at_its_byte(tmp_path: Path, plain: Path, case: str) -> None:
    scheme, ending, value, at, byte = SPOILT[case]
    folder = packing.quantised(
        plain, tmp_path / "quantised", packing.SCHEMES[scheme], spoilt(ending, value, at)
    )
    (found,) = found_in(folder)
    name = OWN.removesuffix(".weight") + ending
    assert (found.rule.id, found.fault.tensor) == ("V401", name)
    raw = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    start = json.loads(raw[8 : 8 + size])[name]["data_offsets"][0]
    assert found.fault.byte == 8 + size + start + byte


MISSTATED = {
    "quantization_config.bits": ("gptq", {"bits": 8}, "is 8, and its codes have 4"),
    "quantization_config.group_size": (
        "awq",
        {"group_size": 128},
        "is 128, and its scales are of groups of 32",
    ),
    "quantization_config.weight_block_size": (
        "fp8 blocks",
        {"weight_block_size": [128, 128]},
        "is [128, 128], and its scales are of blocks of [32, 32]",
    ),
    "quantization_config.config_groups.group_0.weights.num_bits": (
        "ct int4",
        {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int", "group_size": 32}}}},
        "is 8, and its codes have 4",
    ),
    "quantization.bits": ("mlx 4 bits", {"bits": 8}, "is 8, and its codes have 4"),
    "quantization.group_size": (
        "mlx 4 bits",
        {"group_size": 64},
        "is 64, and its scales are of groups of 32",
    ),
    "quantization_config.modules_to_not_convert": (
        "fp8 rows",
        {"modules_to_not_convert": ["up_proj"]},
        "is not quantised, and it is",
    ),
    "quantization_config.ignore": (
        "ct int4",
        {"ignore": ["re:.*up_proj"]},
        "is not quantised, and it is packed",
    ),
}


def restated(folder: Path, **changes: Any) -> None:
    """Keys of the folder's quantization config changed."""
    config = json.loads((folder / "config.json").read_text())
    (table,) = {"quantization_config", "quantization"} & {*config}
    config[table] |= changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("key", MISSTATED)
def test_a_config_that_the_tensors_belie_is_found_alone_and_beside_the_source(
    tmp_path: Path, plain: Path, key: str
) -> None:
    name, changes, said = MISSTATED[key]
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[name])
    restated(folder, **changes)
    (found,) = found_in(folder)
    assert (found.rule.id, found.fault.key) == ("C224", key)
    assert said in found.line()
    (finding,) = compared_files(folder, plain).findings
    assert (finding.kind, finding.key, finding.latent) == ("config.quantization", key, True)
    assert said in finding.message


def test_bits_and_groups_of_mlx_that_are_wrong_together_are_both_found(tmp_path: Path, plain: Path) -> None:
    """2 bits in groups of 64 have as many words and scales as 4 in groups of 32: norms tell how wide modules are."""
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["mlx 4 bits"])
    restated(folder, bits=2, group_size=64)
    assert [found.fault.key for found in found_in(folder)] == ["quantization.bits", "quantization.group_size"]
    assert compared_files(folder, plain).verdict == "drift"


def stray(folder: Path) -> None:
    """A shard of another model."""
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")


def long_template(folder: Path) -> None:
    """A template that does not parse."""
    (folder / "chat_template.jinja").write_text("{% for m in messages %}")


def no_token(folder: Path) -> None:
    """A merge of what are no tokens."""
    table = json.loads((folder / "tokenizer.json").read_text())
    table["added_tokens"].append({**table["added_tokens"][0], "id": 9999, "content": "<new>"})
    (folder / "tokenizer.json").write_text(json.dumps(table))


@pytest.mark.parametrize(("damage", "rule"), [(stray, "F114"), (long_template, "T310"), (no_token, "T309")])
def test_rules_of_folders_look_at_quantised_ones_too(
    tmp_path: Path, plain: Path, damage: Callable[[Path], None], rule: str
) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["gptq"])
    damage(folder)
    assert rule in {found.rule.id for found in found_in(folder)}
