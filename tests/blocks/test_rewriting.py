"""A packed weight read in another way is what its rewritten tensors are by the scheme's own rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures import packing
from fixtures.comparing import tiny
from fixtures.pairs import build
from rosetta.blocks.schemes import rewritten
from rosetta.containers import open_container
from rosetta.containers.huggingface.quantised import QuantisedContainer

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the others are quantised from."""
    spec = tiny("llama", hidden=128, ffn=192, tied=False)
    return build(tmp_path_factory.mktemp("plain"), spec, "hf:BF16")


@pytest.mark.parametrize("scheme", packing.SCHEMES)
def test_rewritten_tensors_say_what_the_way_reads(tmp_path: Path, plain: Path, scheme: str) -> None:
    folder = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[scheme])
    container = open_container(folder)
    assert isinstance(container, QuantisedContainer)
    weight, said = container.packed[NAME], 0
    for way in weight.ways:
        meant = replace(weight, way=way)
        found = rewritten(meant, lambda part: container.part(weight.parts[part]))
        if found is None:
            continue
        said += 1
        others = {weight.parts[part]: tensor for part, tensor in found.items()}
        for name, tensor in others.items():
            assert (tensor.dtype, tensor.shape) == (container.part(name).dtype, container.part(name).shape)
        wanted, values = (
            torch.from_numpy(read.read(NAME)).view(torch.float32).view(-1, 2)[:, 0]
            for read in (container.read_as(meant), container.read_as(weight, others))
        )
        # A zero point at the end of its range.
        wrapped = way.zero_shift and (wanted - values).ne(0).float().mean() < 0.2
        assert wrapped or torch.allclose(
            wanted, values, rtol=2**-6, atol=2**-7 * float(wanted.abs().max())
        ), way
    assert said or not weight.ways or "nested" in scheme
