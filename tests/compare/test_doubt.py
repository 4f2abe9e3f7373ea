"""Stages that a recording lacks leave the next one in doubt by what dtypes explain, and by no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures import build, faults
from fixtures.causes import assert_clean
from fixtures.comparing import compared_files, faulty, tiny
from fixtures.recording import Stages, recorded
from rosetta.compare.doubt import Doubt
from rosetta.model import open_model
from rosetta.transformer import Transformer

GAPS = {
    "one": ("attn_out",),
    "attention": ("q", "k", "v", "q_rope", "k_rope", "attn_scores", "attn_context", "attn_out"),
    "network": ("ffn_gate", "ffn_up", "ffn_act", "ffn_out"),
}


def without(*ops: str, layer: int | None = None) -> Any:
    def edit(stages: Stages) -> Iterator[tuple[str, torch.Tensor]]:
        own = "" if layer is None else f"layers.{layer}."
        return ((n, x) for n, x in stages if not (n.startswith(own) and n.rpartition(".")[2] in ops))

    return edit


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("run", "operand"), [("hf:F32", "gguf:Q4_0"), ("gguf:Q8_0", "hf:F16")])
def test_clean_pair_is_clean_across_a_gap(tmp_path: Path, gap: str, run: str, operand: str) -> None:
    spec = tiny("qwen2", ffn=128)
    trace = recorded(
        tmp_path / "run.safetensors", build(tmp_path, spec, run, stem="run"), edit=without(*GAPS[gap])
    )
    report = compared_files(build(tmp_path, spec, operand, stem="own"), f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert {s.op for s in report.stages if s.status == "skipped"} == set(GAPS[gap])


@pytest.mark.parametrize("gap", GAPS)
def test_fault_in_a_gap_is_found_behind_it(tmp_path: Path, gap: str) -> None:
    spec = tiny("qwen2", ffn=128)
    weight = "attn_output" if gap != "network" else "ffn_down"
    trace = recorded(
        tmp_path / "run.safetensors",
        build(tmp_path, spec, "hf:F32", stem="run"),
        edit=without(*GAPS[gap], layer=1),
    )
    fault = faults.scaled(f"blk.1.{weight}.weight", 1.5)
    report = compared_files(build(tmp_path, spec, "gguf:Q8_0", fault), f"trace:{trace}", tokens=None)
    assert report.verdict == "divergent"
    assert faulty(report)[0] == ("layers.1.residual" if gap == "network" else "layers.1.attn_residual")


def test_doubt_is_what_a_stage_strays_by(tmp_path: Path) -> None:
    """Held to a thousand draws of a normal distribution."""
    model = open_model(build(tmp_path, tiny("llama"), "gguf:F32"))
    node, transformer = model.graph["layers.0.ffn_norm"], Transformer(model)
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(5, 64, generator=draw)
    sigma = torch.rand(5, 64, generator=draw) * 1e-2
    found = Doubt({node.inputs[0]: sigma}).carried(
        node, [x], lambda inputs: transformer.compute(node, inputs)
    )
    still = transformer.compute(node, [x])
    strayed = [
        transformer.compute(node, [x + sigma * torch.randn(5, 64, generator=draw)]) - still
        for _ in range(1000)
    ]
    true = torch.stack(strayed).square().mean((0, 2)).sqrt()  # [T]
    assert found is not None
    assert torch.allclose(found.square().mean(1).sqrt(), true, rtol=0.5)
    assert (found.square().mean(1).sqrt() > 0.8 * true).all()


def test_of_a_stage_that_a_repair_gives_other_dims_its_doubt_is_taken_on_the_whole(tmp_path: Path) -> None:
    """Of three experts where two were: what was known of two rows was added to three."""
    model = open_model(build(tmp_path, tiny("llama"), "gguf:F32"))
    node, x = model.graph["layers.0.ffn_act"], torch.ones(5, 3, 8)
    sigma = torch.full((5, 2, 8), 0.25)
    found = Doubt({node.inputs[0]: sigma}).carried(node, [x, x], lambda inputs: inputs[0] * inputs[1])
    assert found is not None
    assert torch.allclose(found, torch.full((5, 3, 8), 0.25))
