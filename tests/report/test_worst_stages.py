"""Of which stages a report tells heads and experts, and how large that makes it."""

from __future__ import annotations

import json

import pytest

from fixtures import reports
from rosetta.compare.results import BlockMap, ByExpert, WeightDiff, WeightsDiff
from rosetta.report.report import Asked, Report
from rosetta.report.worst_stages import NUMBERS, worst_stages

EXPERTS = ByExpert(left=[1] * 512, right=[1] * 512, max_diff=[0.123456789] * 512)


def test_faults_come_first_then_what_differs_most() -> None:
    many = [reports.stage(f"layers.{n}.ffn_router", "carried", n / 100, by_expert=EXPERTS) for n in range(60)]
    many[3] = reports.stage("layers.3.ffn_router", "faulty", 1e-9, by_expert=EXPERTS)
    told = worst_stages(many)
    assert len(told) == NUMBERS // (3 * 512)
    assert told == {"layers.3.ffn_router", *(f"layers.{n}.ffn_router" for n in range(59, 60 - len(told), -1))}


def test_stages_without_a_measure_are_not_among_them() -> None:
    assert worst_stages([reports.stage("layers.0.ffn_out", "faulty", 1.0)]) == frozenset()


def asked(detail: str) -> Report:
    options = Asked(
        threshold_is_explicit=False, stop_at_first=False, diagnose=True, left_device="cpu", right_device="cpu",
        dtype="float32", detail=detail,
    )  # fmt: skip
    stages = [reports.stage(f"layers.{n}.ffn_router", "carried", 0.5, by_expert=EXPERTS) for n in range(60)]
    blocks = BlockMap(rows=24, columns=32, row_step=1, column_step=1, values=[[1 / 3] * 32] * 24)
    weight = WeightDiff(
        name="w", left_name="w", right_name="w", left_dtype="F16", right_dtype="F16", left_dims=[24, 32],
        right_dims=[24, 32], spectrum=[1 / 3] * 24, block_map=blocks,
    )  # fmt: skip
    return reports.report(
        options=options, stages=stages, weights=WeightsDiff(differing=1, differing_tensors=[weight])
    )


@pytest.mark.parametrize(
    ("detail", "told"), [("summary", 0), ("stages", NUMBERS // (3 * 512)), ("tokens", 60)]
)
def test_detail_says_how_much_of_it_a_report_holds(detail: str, told: int) -> None:
    text = asked(detail).to_json()
    fields = json.loads(text)
    assert sum(stage["by_expert"] is not None for stage in fields["stages"]) == told
    (weight,) = fields["weights"]["differing_tensors"]
    assert (weight["spectrum"] is None, weight["block_map"] is None) == (detail == "summary",) * 2
    if detail != "summary":
        assert weight["spectrum"][0] == weight["block_map"]["values"][0][0] == 0.3333
    assert len(text) < {"summary": 5_000, "stages": 150_000, "tokens": 1_000_000}[detail]


def test_a_report_that_is_read_again_says_the_same() -> None:
    report = asked("stages")
    assert Report.model_validate_json(report.to_json()).to_json() == report.to_json()
