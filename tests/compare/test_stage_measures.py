"""What more is said of a stage that differs: which head, which expert."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures import faults
from fixtures.comparing import compared
from rosetta.compare.in_parts import InParts
from rosetta.compare.results import ByExpert
from rosetta.compare.stage_measures import SeenStage, in_measures
from rosetta.report.report import Report

HEADS, SIZE = 4, 8


def of(report: Report, name: str) -> object:
    return next(stage for stage in report.stages if stage.name == name)


def noise(*dims: int) -> torch.Tensor:
    return torch.randn(*dims, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("op", "dims", "place"),
    [
        ("k", (5, HEADS, SIZE), (slice(None), 2)),
        ("attn_scores", (HEADS, 5, 5), (2,)),
        ("attn_context", (5, HEADS * SIZE), (slice(None), slice(2 * SIZE, 3 * SIZE))),
    ],
)
def test_the_head_that_is_off_has_the_difference(op: str, dims: tuple[int, ...], place: object) -> None:
    right = noise(*dims)
    left = right.clone()
    left[place] += 0.5  # type: ignore[index]
    said = in_measures(SeenStage(op, left, right, heads=HEADS))
    assert said == {"by_head": pytest.approx([0, 0, 0.5, 0]), "by_expert": None}


def test_a_value_that_is_computed_anew_is_only_for_a_fault() -> None:
    whole = noise(HEADS, 5, 5)
    parts = InParts((HEADS, 5, 5), [range(2), range(2, 4)], lambda some: whole[some.start : some.stop], "cpu")
    assert in_measures(SeenStage("attn_scores", parts, whole + 1))["by_head"] is None
    assert in_measures(SeenStage("attn_scores", parts, whole + 1, faulty=True))["by_head"] == pytest.approx(
        [1.0] * 4
    )


def test_a_router_says_who_is_sent_how_much() -> None:
    left = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]])
    right = torch.tensor([[0.75, 0.0, 0.25], [0.0, 0.5, 0.5]])
    assert in_measures(SeenStage("ffn_router", left, right))["by_expert"] == ByExpert(
        left=[1, 2, 1], right=[1, 1, 2], max_diff=[0.0, 0.25, 0.25]
    )


def test_experts_are_compared_where_both_sides_choose_them_whatever_their_place() -> None:
    left = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.625, 0.375]])
    right = torch.tensor([[0.25, 0.75, 0.0], [0.625, 0.0, 0.375]])
    a = torch.tensor([[[1.0, 1.0], [2.0, 2.0]], [[3.0, 3.0], [4.0, 4.0]]])  # experts 0 1, then 1 2
    b = torch.tensor([[[2.5, 2.0], [1.0, 1.0]], [[9.0, 9.0], [4.0, 4.25]]])  # experts 1 0, then 0 2
    said = in_measures(SeenStage("ffn_act", a, b, routing=(left, right)))["by_expert"]
    assert said == ByExpert(left=[1, 2, 1], right=[2, 1, 1], max_diff=[0.0, 0.5, 0.25])


def test_of_a_dense_network_nothing_is_said() -> None:
    assert in_measures(SeenStage("ffn_up", noise(3, 4), noise(3, 4) + 1)) == {
        "by_head": None,
        "by_expert": None,
    }


def test_one_head_of_a_file_is_told_from_the_others(tmp_path: Path) -> None:
    fault = faults.block_scaled("blk.1.attn_v.weight", 2.0)  # the first block of the first row: head 0
    report = compared(tmp_path, "qwen2", "gguf:F32", "gguf:F32", fault, diagnose=False)
    stage = of(report, "layers.1.v")
    assert stage.status == "faulty"  # type: ignore[attr-defined]
    assert [value > 0 for value in stage.by_head] == [True, False]  # type: ignore[attr-defined]
    assert of(report, "layers.0.v").by_head is None  # type: ignore[attr-defined]  # it agrees
