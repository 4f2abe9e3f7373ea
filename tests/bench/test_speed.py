"""The benchmark of speed: what a process costs, what a report must say, the tables and the JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rosetta.bench import speed, speed_yardsticks
from rosetta.bench.speed import CLEAN, EARLY, LATE, Measured, Point, Row, place_for, prompt, wrong
from rosetta.bench.speed_process import Cost, Costs, cost_of
from rosetta.bench.speed_shapes import shape_of
from rosetta.bench.speed_table import render, to_json
from rosetta.errors import RosettaError

TINY = shape_of("tiny")
MIB = 1 << 20


def python(code: str) -> Cost:
    return cost_of([sys.executable, "-S", "-c", code])


def test_memory_is_the_process_own_and_not_its_parents() -> None:
    ballast = bytearray(os.urandom(1)) * (300 * MIB)
    assert len(ballast) == 300 * MIB
    small, large = python("pass"), python("x = bytearray(b'1') * (200 << 20)")
    assert small.peak_bytes < 60 * MIB
    assert 200 * MIB < large.peak_bytes < 260 * MIB


def test_time_is_wall_and_processor() -> None:
    asleep = python("import time; time.sleep(0.5)")
    assert asleep.wall_s > 0.5
    started = time.process_time()
    busy = python("import time\nwhile time.process_time() < 0.4: pass")
    assert busy.processor_s > 0.4 > asleep.processor_s
    assert time.process_time() - started < 0.4, "what a child costs is not counted here"


def test_another_exit_code_ends_the_benchmark_with_what_was_said() -> None:
    command = [sys.executable, "-S", "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"]
    assert cost_of(command, expected=3).code == 3
    with pytest.raises(RosettaError, match="ended with exit code 3, expected 0: no such thing"):
        cost_of(command)
    with pytest.raises(RosettaError, match="exit code -9, expected 0: it said nothing"):
        cost_of([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"])


def report(**changes: Any) -> dict[str, Any]:
    """What a clean comparison of the tiny shape says, as far as the benchmark reads it."""
    stages = [{"name": "tokens", "status": "ok"}]
    stages += [{"name": f"stage {n}", "status": "ok"} for n in range(2 * 16 + 3)]
    return {"verdict": "match", "stages": stages, "findings": []} | changes


def finding(**changes: Any) -> dict[str, Any]:
    known = {"tensor": "blk.1.attn_k.weight", "kind": "value.scaled", "status": "confirmed", "message": "x"}
    return known | changes


def test_right_reports_are_right() -> None:
    assert wrong(report(), TINY, None, whole=True) is None
    assert wrong(report(verdict="drift"), TINY, None, whole=True, verdict="drift") is None
    assert wrong(report(verdict="divergent", findings=[finding()]), TINY, 1, whole=True) is None
    assert wrong(report(verdict="divergent", findings=[finding()], stages=[]), TINY, 1, whole=False) is None


@pytest.mark.parametrize(
    ("changes", "layer", "problem"),
    [
        ({"verdict": "drift"}, None, "its verdict is drift, not match"),
        ({"stages": report()["stages"][:-1]}, None, "it compared 34 stages, not 35"),
        ({"findings": [finding()]}, None, "it accuses x"),
        ({}, 1, "its verdict is match, not divergent"),
        ({"verdict": "divergent"}, 1, "it found []"),
        ({"verdict": "divergent", "findings": [finding(status="suspected")]}, 1, "'suspected'"),
        ({"verdict": "divergent", "findings": [finding(tensor="blk.0.attn_k.weight")]}, 1, "blk.0.attn_k"),
        ({"verdict": "divergent", "findings": [finding(), finding()]}, 1, "it found [("),
    ],
)
def test_wrong_reports_are_wrong(changes: dict[str, Any], layer: int | None, problem: str) -> None:
    assert problem in str(wrong(report(**changes), TINY, layer, whole=True))


def test_a_match_is_wrong_where_drift_is_due() -> None:
    said = wrong(report(), TINY, None, whole=True, verdict="drift")
    assert said == "its verdict is match, not drift"


def test_a_wrong_report_ends_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(name: str, command: list[str], expected: int) -> Row:
        Path(command[command.index("--json") + 1]).write_text(json.dumps(report(verdict="drift")))
        return Row(name, None)

    with pytest.raises(RosettaError, match="the clean comparison of tiny is wrong: its verdict is drift"):
        speed.compared(timed, CLEAN, TINY, tmp_path, tmp_path, "1,2")  # type: ignore[arg-type]


def test_a_prompt_has_its_length_and_lies_in_the_vocabulary() -> None:
    ids = [int(token) for token in prompt(TINY, 100).split(",")]
    assert len(ids) == 100
    assert len(set(ids)) == 100
    assert all(0 <= token < TINY.vocabulary for token in ids)


def test_files_stay_only_where_asked(tmp_path: Path) -> None:
    with place_for(tmp_path, keep=False) as place:
        (place / "x").write_text("x")
        assert place.parent == tmp_path
    assert not list(tmp_path.iterdir())
    with place_for(tmp_path / "new", keep=True) as place:
        (place / "x").write_text("x")
    assert (tmp_path / "new" / "x").is_file()


def test_transformers_is_left_out_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_yardsticks.importlib.util, "find_spec", lambda name: None)
    assert speed_yardsticks.why_not("transformers", 1) == "transformers and accelerate not installed"
    monkeypatch.setattr(speed_yardsticks.importlib.util, "find_spec", lambda name: object())
    assert speed_yardsticks.why_not("transformers", 1) is None
    assert "this machine has" in str(speed_yardsticks.why_not("transformers", 10**13))
    assert speed_yardsticks.why_not("llama.cpp", 10**13) is None


def costs(*seconds: float, peak: int = 100 * MIB) -> Costs:
    return Costs(tuple(Cost(0, wall, 2 * wall, peak + n) for n, wall in enumerate(seconds)))


def measured() -> Measured:
    rows = (
        Row(CLEAN, costs(6.0, 5.0, 9.0, peak=500 * MIB)),
        Row("llama.cpp", costs(2.0, 2.5, 4.0, peak=1000 * MIB)),
        Row("transformers", None, "accelerate not installed"),
    )
    points = (Point("tokens", 4, 50 * MIB, costs(1.0)), Point("tokens", 2048, 50 * MIB, costs(8.0)))
    return Measured(TINY, 4, 60 * MIB, rows, points, (0.5, 1.5))


def test_best_median_and_largest() -> None:
    found = costs(6.0, 5.0, 9.0)
    assert (found.best_s, found.median_s, found.processor_s, found.peak_bytes) == (
        5.0,
        6.0,
        10.0,
        100 * MIB + 2,
    )


def test_the_table_has_ratios_to_the_peers_that_ran() -> None:
    text = render(measured())
    lines = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in text.splitlines()
        if line.startswith("|")
    }
    assert [cell.strip() for cell in lines[CLEAN]] == ["5.00", "6.00", "10.00", "500", "2.50", "0.50"]
    assert [cell.strip() for cell in lines["2048"]] == ["50", "8.00", "8.00", "16.00", "100"]
    assert "transformers was not run: accelerate not installed." in text
    assert "tiny: qwen2, 2 layers, hidden 256, vocabulary 512" in text
    assert "load 0.5 to 1.5" in text


def test_json_holds_every_run() -> None:
    document = json.loads(to_json(measured()))
    clean, _, absent = document["rows"]
    assert [run["wall_s"] for run in clean["runs"]] == [6.0, 5.0, 9.0]
    assert clean["best_s"] == 5.0
    assert absent == {
        "name": "transformers", "note": "accelerate not installed", "best_s": None, "median_s": None,
        "processor_s": None, "peak_bytes": None, "runs": [],
    }  # fmt: skip
    assert [point["value"] for point in document["growth"]] == [4, 2048]
    assert document["shape"]["parameters"] == TINY.parameters


def test_every_run_of_every_process_is_made_and_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def cost(command: list[str], expected: int = 0) -> Cost:
        commands.append(command)
        if "--json" in command:
            layer = next((n for n in (0, 1) if f"fault-{n}" in command[3]), None)
            found = [] if layer is None else [finding(tensor=f"blk.{layer}.attn_k.weight")]
            text = json.dumps(report(verdict="divergent" if found else "match", findings=found))
            Path(command[command.index("--json") + 1]).write_text(text)
        assert expected == int("fault" in command[3])
        return Cost(expected, 1.0, 1.0, MIB)

    monkeypatch.setattr(speed, "cost_of", cost)
    monkeypatch.setattr(
        speed, "why_not", lambda peer, parameters: None if peer == "llama.cpp" else "too large"
    )
    said: list[str] = []
    found = speed.run_speed(TINY, 2, 5, tmp_path, lambda what, done, total: said.append(what))
    names = ["read both files", "forward pass", CLEAN, EARLY, LATE, "llama.cpp", "transformers"]
    assert [row.name for row in found.rows] == names
    assert len(commands) == 2 * 6
    assert [row.note for row in found.rows][-1] == "too large"
    assert "late fault, run 2" in said
    assert all("--stop-at-first" in c for c in commands if "tiny-fault-0.apr" in c[3])
    assert {path.suffix for path in tmp_path.iterdir()} == {".apr", ".gguf"}
    assert len(list(tmp_path.iterdir())) == 2, "the broken files are removed"
