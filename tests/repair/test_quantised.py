"""Packed weights of a quantised folder go through a repair as they are; one that is wrong itself is refused by name."""

from __future__ import annotations

from pathlib import Path

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


def test_a_packed_weight_that_is_wrong_is_refused_by_name(tmp_path: Path, repair: Repair) -> None:
    plain = build(tmp_path, SPEC, "hf:BF16")
    fault = faults.zero_points_shifted(PACKED, ".qzeros", 1)
    folder = packing.quantised(plain, tmp_path / "quantised", packing.gptq(), fault)
    run = repair(folder, plain, fixed=tmp_path / "fixed")
    assert run.code == 2
    assert f"tensor '{PACKED}': is packed as GPTQ:INT4, which rosetta does not write" in run.err
