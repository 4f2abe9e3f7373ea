"""`rosetta history`: reports go in, and how pairs fared comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixtures import reports

Run = Callable[..., Any]


def test_reports_go_in_once_and_a_pair_says_how_it_stands(rosetta: Run, tmp_path: Path) -> None:
    db = tmp_path / "history.db"
    (tmp_path / "broken.json").write_text(reports.dims_swapped().to_json(), "utf-8")
    (tmp_path / "clean.json").write_text(reports.report().to_json(), "utf-8")
    assert rosetta("history", "add", tmp_path / "clean.json", "--db", db).out == f"{db}: 1 run added\n"
    again = rosetta("history", "add", tmp_path / "clean.json", tmp_path / "broken.json", "--db", db)
    assert again.out == f"{db}: 1 run added, 1 already there\n"
    (line, *rows) = rosetta("history", "show", "--db", db, "-v").out.splitlines()
    assert line.startswith("model.apr and model.gguf, prompt '2+2=': divergent since ")
    assert "(1 of 2 runs), first at Layer 0 k; match before" in line
    assert "layout.dims_swapped" in rows[-1]
    assert rosetta("history", "show", "nothing", "--db", db).out == "No run is kept of such a pair.\n"


def test_it_names_the_tensors_whose_bytes_are_others_since_a_pair_diverged(
    rosetta: Run, tmp_path: Path
) -> None:
    names = [f"blk.{layer}.attn_k.weight" for layer in range(3)]
    clean, broken = (
        made(left=reports.side(tensors_sha256=dict.fromkeys(names, digest) | {"output.weight": "same"}))
        for made, digest in ((reports.report, "a"), (reports.dims_swapped, "b"))
    )
    for name, report in (("clean", clean), ("broken", broken)):
        (tmp_path / f"{name}.json").write_text(report.to_json(), "utf-8")
        rosetta("history", "add", tmp_path / f"{name}.json", "--db", tmp_path / "h.db")
    (_, line) = rosetta("history", "show", "--db", tmp_path / "h.db").out.splitlines()
    assert line == "  other bytes since then: left blk.{0..2}.attn_k.weight"


def test_without_a_history_it_says_so(rosetta: Run, tmp_path: Path) -> None:
    result = rosetta("history", "show", "--db", tmp_path / "none.db")
    assert result.code == 2
    assert "rosetta history add writes one" in result.err
