"""The history: what is kept, by several writers at once, over versions; what it says; the dashboard that reads it."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import sqlite3
from pathlib import Path
from typing import Any, get_args

import pytest

from fixtures import reports
from rosetta import history
from rosetta.compare.results import Verdict
from rosetta.errors import RosettaError
from rosetta.report.openmetrics import GAUGES
from rosetta.report.report import Git, Host, Report, RunFacts

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs" / "dashboards" / "rosetta.json").read_text("utf-8"))


def run(number: int, report: Report | None = None, **changes: Any) -> Report:
    """A report of the n-th day."""
    facts = RunFacts(
        id=f"run-{number}",
        started=f"2026-01-{number + 1:02d}T08:00:00.000+00:00",
        argv=["rosetta"],
        versions={},
        host=Host(name="host", system="Linux", machine="x86_64", cpus=2),
        git=Git(commit=f"{number:040d}", branch="main", dirty=False),
    )
    return (report or reports.report()).model_copy(update={"run": facts, **changes})


@pytest.fixture
def base(tmp_path: Path) -> Any:
    with history.opened(tmp_path / "h.db", make=True) as opened:
        yield opened


def test_a_run_its_stages_and_its_findings_are_kept(base: Any) -> None:
    assert history.add(base, [run(0, reports.dims_swapped()), run(1)]) == 2
    (row,) = base.execute("SELECT verdict, first_stage, git_commit, host FROM runs WHERE id = 'run-0'")
    assert row == ("divergent", "layers.0.k", "0" * 40, "host")
    assert base.execute("SELECT count(*) FROM stages WHERE run = 'run-0'").fetchone() == (
        len(reports.stages()),
    )
    assert base.execute("SELECT run, kind, stage FROM findings").fetchall() == [
        ("run-0", "layout.dims_swapped", "layers.0.k")
    ]


def test_the_same_run_is_kept_once_and_so_is_the_same_library_call(base: Any) -> None:
    assert history.add(base, [run(0), run(0), reports.report(), reports.report()]) == 2
    assert history.add(base, [run(0)]) == 0


def test_all_reports_are_kept_or_none(base: Any) -> None:
    with pytest.raises(AttributeError):
        history.add(base, [run(0), None])  # type: ignore[list-item]
    assert base.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_nan_is_kept_as_too_large_and_not_as_not_computable(base: Any) -> None:
    stages = [reports.stage("embedding", "faulty", math.nan), reports.stage("logits", "faulty", None)]
    history.add(base, [run(0, stages=stages, prompt="\ud800")])
    assert base.execute("SELECT max_diff FROM stages ORDER BY position").fetchall() == [(math.inf,), (None,)]


def test_it_says_since_when_a_pair_diverges_and_where(base: Any) -> None:
    broken = reports.dims_swapped()
    history.add(base, [run(0, broken), run(1), run(2), run(3, broken), run(4, broken)])
    (story,) = history.stories(base)
    assert story.began.id == "run-3"
    assert story.began.first_stage == "layers.0.k"
    assert story.before is not None
    assert story.before.id == "run-2"
    assert story.now.findings == ("layout.dims_swapped",)


def hashed(digest: str, side: str = "left", **others: str) -> dict[str, Any]:
    """A side that was hashed to its end."""
    return {
        side: reports.side(
            sha256=digest,
            tensors_sha256={"blk.0.attn_k.weight": digest, "blk.1.attn_k.weight": digest} | others,
        )
    }


def test_it_says_which_bytes_are_others_since_a_verdict_changed(base: Any) -> None:
    broken = reports.dims_swapped()
    history.add(
        base,
        [
            run(0, **hashed("a", gone="d")),
            run(1, broken, **hashed("b", new="e")),
            run(2, broken, **hashed("c")),
        ],
    )
    (story,) = history.stories(base)
    assert story.changed == (
        ("left", "blk.0.attn_k.weight"), ("left", "blk.1.attn_k.weight"), ("left", "gone"), ("left", "new"),
    )  # fmt: skip


def test_of_runs_that_read_some_tensors_it_names_those_that_both_read(base: Any) -> None:
    def some(**tensors: str) -> dict[str, Any]:
        return {"left": reports.side(tensors_sha256=tensors)}

    history.add(
        base, [run(0, **some(first="a", second="b")), run(1, reports.dims_swapped(), **some(first="c"))]
    )
    (story,) = history.stories(base)
    assert story.changed == (("left", "first"),)


def test_of_a_run_without_hashes_it_does_not_say_that_bytes_are_others(base: Any) -> None:
    history.add(base, [run(0), run(1, reports.dims_swapped(), **hashed("b"))])
    (story,) = history.stories(base)
    assert story.changed == ()


def test_pairs_and_prompts_have_stories_of_their_own_and_what_diverges_comes_first(base: Any) -> None:
    other = reports.dims_swapped(left=reports.side(operand="z.apr"))
    history.add(base, [run(0), run(1, prompt="other"), run(2, other)])
    assert [(s.left, s.prompt) for s in history.stories(base)] == [
        ("z.apr", "2+2="), ("model.apr", "2+2="), ("model.apr", "other"),
    ]  # fmt: skip
    assert [s.left for s in history.stories(base, "z.")] == ["z.apr"]


def _keep(path: Path, kept: list[Report], together: Any) -> None:
    """One writer: each report in a transaction of its own, the first as everybody makes the file."""
    together.wait()
    for report in kept:
        with history.opened(path, make=True) as base:
            history.add(base, [report])


def test_fifty_runs_by_eight_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # what is imported need not be so again
    together = context.Barrier(8)
    runs = [run(0).model_copy(update={"run": None, "reason": str(number)}) for number in range(50)]
    writers = [
        context.Process(target=_keep, args=(tmp_path / "h.db", runs[first::8], together))
        for first in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(100)
    assert [writer.exitcode for writer in writers] == [0] * 8
    with history.opened(tmp_path / "h.db") as base:
        assert base.execute("SELECT count(*) FROM runs").fetchone() == (50,)
        assert base.execute("SELECT count(*) FROM stages").fetchone() == (50 * len(reports.stages()),)
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_older_file_is_brought_to_this_version_and_keeps_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with history.opened(tmp_path / "h.db", make=True) as base:
        history.add(base, [run(0)])
    later = (
        *history.MIGRATIONS,
        "ALTER TABLE runs ADD COLUMN colour TEXT; CREATE INDEX by_colour ON runs (colour)",
    )
    monkeypatch.setattr(history, "MIGRATIONS", later)
    with history.opened(tmp_path / "h.db") as base:
        assert base.execute("SELECT id, colour FROM runs").fetchall() == [("run-0", None)]
        history.add(base, [run(1)])
    monkeypatch.undo()
    with (
        pytest.raises(RosettaError, match="version 3: this program reads up to 2"),
        history.opened(tmp_path / "h.db"),
    ):
        pass


def test_what_is_no_history_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and long enough to be read as one" * 30)
    with pytest.raises(RosettaError, match="is no history"), history.opened(tmp_path / "text"):
        pass
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE theirs (a)")
    with (
        pytest.raises(RosettaError, match="something else"),
        history.opened(tmp_path / "other.db", make=True),
    ):
        pass
    with pytest.raises(RosettaError, match="no such file"), history.opened(tmp_path / "none.db"):
        pass
    assert not (tmp_path / "none.db").exists()
    with (
        pytest.raises(RosettaError, match="cannot be opened"),
        history.opened(tmp_path / "no" / "h.db", make=True),
    ):
        pass


def test_the_documented_tables_are_the_files(base: Any) -> None:
    text = (ROOT / "docs" / "dashboards.md").read_text("utf-8").partition("## Tables")[2]
    for line in re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE):
        columns = [row[1] for row in base.execute(f"PRAGMA table_info({line[0]})")]
        assert re.findall(r"`(\w+)`", line[1]) == columns
    documented = (ROOT / "docs" / "dashboards.md").read_text("utf-8")
    assert all(f"`{gauge.name}`" in documented for gauge in GAUGES)


def targets(kind: str) -> list[dict[str, Any]]:
    return [
        target
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        if target["datasource"]["type"] == kind
    ]


def test_every_query_of_the_dashboard_runs_on_a_history(base: Any) -> None:
    history.add(base, [run(0, reports.dims_swapped()), run(1, reports.drift())])
    queries = targets("frser-sqlite-datasource")
    assert len(queries) == 3
    for target in queries:
        query = target["queryText"].replace("$__from", "0").replace("$__to", "9e12")
        rows = base.execute(query)
        assert {*target["timeColumns"]} <= {column[0] for column in rows.description}
        assert rows.fetchall(), query


def test_every_metric_of_the_dashboard_is_written() -> None:
    known = {gauge.name for gauge in GAUGES}
    for target in targets("prometheus"):
        assert set(re.findall(r"rosetta_\w+", target["expr"])) <= known


def test_panels_of_the_dashboard_do_not_overlap_and_ask_for_inputs_that_it_has() -> None:
    cells = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        place = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & place
        assert at["x"] + at["w"] <= 24
        cells |= place
    asked = set(re.findall(r"\$\{(DS_\w+)\}", json.dumps(DASHBOARD)))
    assert asked == {entry["name"] for entry in DASHBOARD["__inputs"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_verdict_has_a_colour() -> None:
    maps = [
        rule["value"]
        for panel in DASHBOARD["panels"]
        for override in panel["fieldConfig"]["overrides"]
        for rule in override["properties"]
        if override["matcher"]["options"] == "verdict" and rule["id"] == "mappings"
    ]
    assert [{*mapping["options"]} for [mapping] in maps] == [{*get_args(Verdict)}] * 2


def test_grafanas_own_classes_read_the_dashboard() -> None:
    sdk = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk (pip)"
    )
    read = sdk.Dashboard.from_json(DASHBOARD)
    assert read.title == "rosetta"
    assert len(read.panels) == len(DASHBOARD["panels"])
