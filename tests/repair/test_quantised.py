"""Packed weights of a quantised folder go through a repair as they are; one that is wrong itself is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import packing
from fixtures.comparing import tiny
from fixtures.faults import packing as faults
from fixtures.pairs import build
from tests.repair.conftest import Repair, changed, tensors

SPEC = tiny("llama", hidden=128, ffn=192, tied=False)
NORM, PACKED = "model.layers.1.post_attention_layernorm.weight", "model.layers.1.mlp.up_proj.weight"


def test_packed_weights_pass_through(tmp_path: Path, repair: Repair) -> None:
    plain = build(tmp_path, SPEC, "hf:BF16")
    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq())
    file = folder / "model.safetensors"
    save_file({name: x * 2 if name == NORM else x for name, x in load_file(file).items()}, file)
    run = repair(folder, plain, fixed=tmp_path / "fixed")
    assert run.code == 0, run.out + run.err
    assert changed(tensors(folder), tensors(run.fixed)) == {NORM}
    assert torch.equal(load_file(run.fixed / file.name)[NORM], load_file(plain / file.name)[NORM])


MENDED = {
    "gptq zero points": ("gptq", faults.zero_points_shifted(PACKED, ".qzeros", 1), ".qzeros"),
    "gptq scales of other rows": ("gptq", faults.scales_of_other_rows(PACKED, ".scales", 1), ".scales"),
    "gptq group index": ("gptq by activation", faults.group_index_replaced(PACKED), ".g_idx"),
    "awq zero points": ("awq", faults.zero_points_shifted(PACKED, ".qzeros", 1), ".qzeros"),
    "ct zero points": (
        "ct int4 zero points",
        faults.zero_points_shifted(PACKED, ".weight_zero_point", 1),
        ".weight_zero_point",
    ),
    "fp8 scales": (
        "fp8 blocks",
        faults.scales_by_the_other_axis(PACKED, ".weight_scale_inv"),
        ".weight_scale_inv",
    ),
    "fp8 rows of codes": ("fp8 rows", faults.codes_of_other_rows(PACKED, ".weight"), ".weight"),
    "mlx nibbles": ("mlx 4 bits", faults.nibbles_exchanged(PACKED, ".weight"), ".weight"),
    "bnb nibbles": ("bnb nf4", faults.nibbles_exchanged(PACKED, ".weight"), ".weight"),
}


@pytest.mark.parametrize("case", MENDED.values(), ids=MENDED)
def test_what_is_wrong_with_a_packed_weight_is_put_right_in_its_own_tensors(
    tmp_path: Path, repair: Repair, case: tuple[str, packing.Change, str]
) -> None:
    name, fault, ending = case
    plain = build(tmp_path, SPEC, "hf:BF16")
    scheme = packing.SCHEMES[name]
    right = packing.quantised(plain, tmp_path / "right", scheme)
    folder = packing.quantised(plain, tmp_path / "quantised", scheme, fault)
    run = repair(folder, plain, fixed=tmp_path / "fixed")
    assert run.code == 0, run.out + run.err
    assert changed(tensors(folder), tensors(run.fixed)) == {PACKED.removesuffix(".weight") + ending}
    assert changed(tensors(right), tensors(run.fixed)) == set()


def test_values_that_no_scheme_says_are_refused_by_name(tmp_path: Path, repair: Repair) -> None:
    plain = build(tmp_path, SPEC, "hf:BF16")
    folder = packing.quantised(plain, tmp_path / "quantised", packing.fp8())
    file = plain / "model.safetensors"
    save_file({name: -x if name == PACKED else x for name, x in load_file(file).items()}, file)
    run = repair(folder, plain, fixed=tmp_path / "fixed")
    assert run.code == 2
    assert f"tensor '{PACKED}': is packed as FP8:E4M3, which rosetta does not write" in run.err
