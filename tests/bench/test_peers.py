"""The peers' rules, on numbers small enough to work out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures import faults, pair
from rosetta.bench.peers import RULES, alarms, cosine, last_token_nmse, max_difference, relative_difference
from rosetta.model import open_model

B = torch.tensor([[3.0, 4.0], [0.0, 5.0]], dtype=torch.float64)


@pytest.mark.parametrize(("gap", "raises"), [(0.0009, False), (0.0011, True), (float("nan"), True)])
def test_largest_difference(gap: float, raises: bool) -> None:
    assert max_difference(B + torch.tensor([0.0, gap]), B) == raises


# a = cB: 1 - 2c / (1 + c²), which is 1e-3 at c = 1.0457
@pytest.mark.parametrize(("factor", "raises"), [(1.04, False), (1.05, True), (-1.0, True)])
def test_relative_difference(factor: float, raises: bool) -> None:
    assert relative_difference(B * factor, B) == raises


@pytest.mark.parametrize(
    ("a", "raises"), [(B * 7, False), (B.flip(0), True), (B + torch.tensor([0.1, 0.0]), False)]
)
def test_cosine(a: torch.Tensor, raises: bool) -> None:
    assert cosine(a, B) == raises


def test_nmse_looks_at_the_last_token_only() -> None:
    first, last = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.51]])
    assert not last_token_nmse(B + first, B)
    assert last_token_nmse(B + last, B)  # 0.51² / 5² = 0.0104
    assert not last_token_nmse(B + last * 0.97, B)


def models(folder: Path, *fault: faults.Fault) -> list[object]:
    return [open_model(str(path)) for path in pair(folder, "qwen2", "gguf:F32", "hf:F32", fault)]


def test_a_gross_fault_alarms_every_rule_at_its_stage(tmp_path: Path) -> None:
    left, right = models(tmp_path, faults.scaled("blk.1.ffn_up.weight", -3))
    found = alarms(left, right, [5, 9, 31], [5, 9, 31])  # type: ignore[arg-type]
    assert found == {
        **dict.fromkeys(RULES, "layers.1.ffn_up"),
        "last-token NMSE 1e-2": "-",
    }


def test_a_stage_that_cannot_be_computed_alarms_there(tmp_path: Path) -> None:
    left, right = models(tmp_path, faults.dims_swapped("blk.0.attn_k.weight"))
    found = alarms(left, right, [5, 9], [5, 9])  # type: ignore[arg-type]
    assert found["cosine 0.997"] == "layers.0.k"


def test_equal_models_raise_nothing(tmp_path: Path) -> None:
    left, right = models(tmp_path)
    assert alarms(left, right, [5, 9], [5, 9]) == {}  # type: ignore[arg-type]


def test_other_tokens_alarm_at_the_embedding(tmp_path: Path) -> None:
    left, right = models(tmp_path)
    assert alarms(left, right, [0, 5, 9], [5, 9])["max difference 1e-3"] == "embedding"  # type: ignore[arg-type]
