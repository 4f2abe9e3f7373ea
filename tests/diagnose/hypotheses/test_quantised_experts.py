"""Quantised folders of experts and of fused tensors: clean ones raise no alarm, and what is wrong with one expert, or
with all of a fused tensor, is one finding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fixtures import packing
from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import compared_files
from fixtures.faults import packing as faults
from fixtures.recipes import Recipe, build_folder
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
MIXTURES = {
    "mixtral": Recipe("MixtralConfig", arguments={"num_local_experts": 4, "num_experts_per_tok": 2, **SIZES}),
    "qwen3moe": replace(
        RECIPES["qwen3moe"],
        arguments={**RECIPES["qwen3moe"].arguments, "moe_intermediate_size": 128, "num_experts": 4, **SIZES},
    ),
}
QUANTISATION = "config.quantization"
TOKENS = (17, 10, 17, 28, 300, 5, 63, 299, 128, 31, 31, 7)


def plain_folder(folder: Path, recipe: Recipe) -> Path:
    """A folder in BF16."""
    build_folder(folder, recipe)
    file = folder / "model.safetensors"
    save_file({name: x.bfloat16() for name, x in load_file(file).items()}, file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    return folder


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders that the others are quantised from."""
    folder = tmp_path_factory.mktemp("plain")
    return {name: plain_folder(folder / name, recipe) for name, recipe in MIXTURES.items()}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_experts_that_mlx_stacks_are_known_and_clean(
    tmp_path: Path, mixtures: dict[str, Path], name: str, bits: int
) -> None:
    folder = packing.mlx_mixture(mixtures[name], tmp_path / "mlx", packing.mlx(bits))
    assert open_model(folder).unknown == ()
    report = compared_files(folder, mixtures[name])
    assert_clean(report)
    assert (report.weights.missing_left, report.weights.differing_tensors) == ([], [])


def test_errors_that_hang_together_are_no_fault_in_inputs_that_do_so_too(
    tmp_path: Path, mixtures: dict[str, Path]
) -> None:
    """A clean folder was said to lack an adapter of rank 5."""
    plain, scheme = mixtures["mixtral"], packing.compensated_gptq(4, 64, spread=1.0)
    assert_clean(compared_files(packing.quantised(plain, tmp_path / "gptq", scheme), plain))


def swapped_experts(order: list[int]) -> packing.Change:
    """The scales and biases of the last layer's experts in another order, or some twice."""

    def change(name: str, tensors: packing.Tensors) -> packing.Tensors:
        if name != "model.layers.1.mlp.switch_mlp.up_proj.weight":
            return tensors
        return tensors | {part: tensors[part][order] for part in (".scales", ".biases")}

    return change


def test_scales_of_another_expert_of_a_stack_are_told(tmp_path: Path, mixtures: dict[str, Path]) -> None:
    change = swapped_experts([0, 2, 2, 3])
    folder = packing.mlx_mixture(mixtures["qwen3moe"], tmp_path / "mlx", packing.mlx(4), change)
    report = compared_files(folder, mixtures["qwen3moe"])
    assert_proven(report, "layers.1.ffn_up", Cause(QUANTISATION, "blk.1.ffn_up_exps.1.weight"))
    assert "its scales and biases are those of expert 2" in report.findings[0].message


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [3, 0, 1, 2]], ids=["exchanged", "rolled"])
@pytest.mark.parametrize("bits", [3, 4])
def test_scales_that_lie_at_other_experts_are_one_finding_of_the_stack(
    tmp_path: Path, mixtures: dict[str, Path], order: list[int], bits: int
) -> None:
    folder = packing.mlx_mixture(
        mixtures["qwen3moe"], tmp_path / "mlx", packing.mlx(bits), swapped_experts(order)
    )
    report = compared_files(folder, mixtures["qwen3moe"])
    assert_proven(report, "layers.1.ffn_up", Cause(QUANTISATION, "blk.1.ffn_up_exps.weight"))
    assert "its scales and biases belong to other experts" in report.findings[0].message


STACK = "model.layers.1.mlp.switch_mlp.up_proj.weight"
OF_A_STACK = {
    "nibbles": ("dtype.block_order", faults.nibbles_exchanged(STACK, ".weight")),
    "scales of other rows": (
        QUANTISATION,
        faults.both(
            *(faults.scales_of_other_rows(STACK, ending, 1) for ending in (".scales", ".biases")),
        ),
    ),
    "scales of other groups": (
        QUANTISATION,
        faults.both(
            *(faults.scales_of_other_rows(STACK, ending, 2) for ending in (".scales", ".biases")),
        ),
    ),
}


@pytest.mark.parametrize("fault", OF_A_STACK)
def test_what_is_wrong_with_all_experts_of_a_stack_is_one_finding(
    tmp_path: Path, mixtures: dict[str, Path], fault: str
) -> None:
    kind, change = OF_A_STACK[fault]
    folder = packing.mlx_mixture(mixtures["qwen3moe"], tmp_path / "mlx", packing.mlx(4), change)
    report = compared_files(folder, mixtures["qwen3moe"])
    assert_proven(report, "layers.1.ffn_up", Cause(kind, "blk.1.ffn_up_exps.weight"))


@pytest.mark.parametrize(("scheme", "ending"), [("gptq", ".scales"), ("fp8 rows", ".weight_scale")])
def test_scales_of_another_expert_are_told_by_its_name(
    tmp_path: Path, mixtures: dict[str, Path], scheme: str, ending: str
) -> None:
    plain = mixtures["qwen3moe"]
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[scheme])
    stem, file = "model.layers.1.mlp.experts.{}.up_proj", folder / "model.safetensors"
    held = load_file(file)
    save_file(held | {stem.format(1) + ending: held[stem.format(2) + ending].clone()}, file)
    report = compared_files(folder, plain)
    assert_proven(report, "layers.1.ffn_up", Cause(QUANTISATION, "blk.1.ffn_up_exps.1.weight"))
    assert f"its scales are those of {stem.format(2)}.weight" in report.findings[0].message


@pytest.mark.parametrize(
    "fault",
    [
        faults.scales_of_other_rows("model.layers.1.self_attn.qkv_proj.weight", ".scales", 1),
        faults.zero_points_shifted("model.layers.1.self_attn.qkv_proj.weight", ".qzeros", 1),
    ],
    ids=["scales", "zero points"],
)
def test_a_fused_tensor_is_one_finding(tmp_path: Path, fault: packing.Change) -> None:
    plain = plain_folder(tmp_path / "plain", RECIPES["phi3"])
    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq(), fault)
    report = compared_files(folder, plain)
    assert_proven(report, "layers.1.q", Cause(QUANTISATION, "blk.1.attn_q.weight"))
