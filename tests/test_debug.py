"""`rosetta debug`, driven key by key: the cursor, the figures, the findings, and a repair that is really computed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import rosetta
from fixtures import reports
from rosetta.cli.debug import repaired
from rosetta.compare.options import Options
from rosetta.compare.results import ByExpert
from rosetta.demo import write_demo
from rosetta.report.report import Report

pytest.importorskip("textual", reason="needs textual: pip install 'rosetta-trace[debug]'")
SIZES = ((80, 24), (200, 50))


def drive(
    report: Report, steps: Callable[[Any, Any], Awaitable[None]], repair: Any = None, size: Any = SIZES[1]
) -> None:
    """Run the program and the steps in it."""
    from rosetta.debug import Debugger

    async def run() -> None:
        app = Debugger(report, repair)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(run())


def said(app: Any, name: str) -> str:
    """What a part of the screen says."""
    return str(app.query_one(f"#{name}").render())


@pytest.mark.parametrize("size", SIZES)
def test_it_stands_at_the_first_fault_and_says_what_is_known(size: tuple[int, int]) -> None:
    async def steps(app: Any, pilot: Any) -> None:
        assert "FAILED: layout mismatch at Layer 0 k" in said(app, "verdict")
        assert said(app, "stage").startswith("Layer 0 k: faulty")
        assert "proof: k computed with the transpose" in said(app, "stage")
        await pilot.press("down", "left")
        assert said(app, "stage").startswith("Layer 1 q: ok")

    drive(reports.dims_swapped(), steps, size=size)


def test_the_figure_changes_and_the_cursor_stays() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("m")
        assert app.sub_title == "as stored: whole difference / threshold"
        assert str(app.query_one("#map").get_cell_at((1, 1))) == "~ 4.1"
        await pilot.press("m")
        assert str(app.query_one("#map").get_cell_at((1, 1))) == "~ 0.45"

    drive(reports.drift(), steps)


def test_heads_and_experts_are_said_the_worst_first() -> None:
    sent = ByExpert(left=[3, 1], right=[2, 1], max_diff=[0.25, 0.5])
    k = reports.stage("layers.0.k", "faulty", 0.5, by_head=[0.0, 0.5, 0.125])
    router = reports.stage("layers.0.attn_out", "carried", 0.5, by_expert=sent)

    async def steps(app: Any, pilot: Any) -> None:
        assert "heads: 1 5.00e-01, 2 1.25e-01, 0 0.00e+00" in said(app, "stage")
        await pilot.press("right", "right")
        assert "send:\n  1: 5.00e-01, 1 and 1\n  0: 2.50e-01, 3 and 2 ≠" in said(app, "stage")

    drive(reports.report(stages=reports.stages(layers_0_k=k, layers_0_attn_out=router)), steps)


def test_a_finding_leads_to_its_stage() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        app.query_one("#findings").focus()
        await pilot.press("enter")
        await pilot.pause()
        assert said(app, "stage").startswith("Layer 1 k")

    found = [
        reports.finding(
            layer=1, evidence=reports.finding().evidence.model_copy(update={"stage": "layers.1.k"})
        )
    ]  # type: ignore[union-attr]
    drive(reports.dims_swapped(findings=found), steps)


def test_a_repair_is_computed_and_taken_back(tmp_path: Path) -> None:
    whole, broken = map(str, write_demo(tmp_path, "scaled"))

    async def steps(app: Any, pilot: Any) -> None:
        assert said(app, "stage").startswith("Layer 2 ffn_out: faulty")
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "MATCHED" in said(app, "verdict")
        assert said(app, "stage").startswith("Layer 2 ffn_out: ok")
        await pilot.press("r")
        assert "FAILED" in said(app, "verdict")

    drive(rosetta.compare(broken, whole), steps, lambda: repaired(broken, whole, Options()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.gguf", "model.gguf"]


def test_where_nothing_can_be_repaired_it_says_so() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("r")
        await pilot.pause()
        assert [note.message for note in app._notifications] == ["no confirmed repair can be applied here"]

    drive(reports.report(), steps, repair=reports.report)


@pytest.mark.parametrize(
    "report",
    [
        reports.report(stages=[]),
        reports.report(stages=[reports.stage("embedding")], logits=None),
        reports.drift(),
    ],
)
def test_any_report_can_be_walked_through(report: Report) -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("f", "m", "down", "right", "end")

    drive(report, steps, size=SIZES[0])
