"""The matrix of a sweep's reports, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rosetta.sweep.job import Job, Prompt
from rosetta.sweep.matrix import Matrix, matrix_of

PROMPTS = (Prompt("p", {"prompt": "p"}), Prompt("q", {"prompt": "q"}))


def matrix(folder: Path, *said: dict[str, Any] | None) -> Matrix:
    """Of pairs × prompts, whose reports say so; None: there is none."""
    jobs = [Job(f"pair{n // 2}", f"l{n // 2}", "r", PROMPTS[n % 2]) for n in range(len(said))]
    for job, report in zip(jobs, said, strict=True):
        if report is not None:
            job.report_in(folder).write_text(json.dumps(report))
    return matrix_of(jobs, folder)


def report(verdict: str, code: int, *kinds: str) -> dict[str, Any]:
    """As much of a report as the matrix reads."""
    findings = [{"kind": kind, "latent": False} for kind in kinds] + [{"kind": "hidden", "latent": True}]
    return {
        "verdict": verdict,
        "reason": f"the reason of {verdict}",
        "assertion": {"exit_code": code},
        "findings": findings,
        "first_divergence": {"name": "layers.0.k"} if verdict == "divergent" else None,
    }


def test_rows_are_pairs_and_columns_prompts(tmp_path: Path) -> None:
    found = matrix(
        tmp_path, report("match", 0), report("divergent", 1, "a.b", "c.d", "a.b"), report("drift", 0), None
    )
    lines = found.to_text().splitlines()
    assert lines[1].split() == ["pair", "p", "q"]
    assert lines[3].split(maxsplit=1) == ["pair0", "✓ match  ✗ divergent a.b +1"]
    assert lines[4].split() == ["pair1", "~", "drift", "·", "missing"]
    assert "✗ pair0, q: the reason of divergent" in lines
    assert "· pair1, q: there is no report yet" in lines
    assert lines[-1] == "4 comparisons: 1 match, 1 drift, 1 divergent, 1 missing"
    cell = json.loads(found.to_json())["cells"][1]
    assert (cell["kinds"], cell["first"], cell["exit_code"]) == (["a.b", "c.d"], "layers.0.k", 1)
    assert json.loads(found.to_json())["counts"]["missing"] == 1


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([], 3),
        ([report("match", 0)], 0),
        ([report("match", 0), None], 3),
        ([report("inconclusive", 3), report("match", 0)], 3),
        ([report("error", 2), report("inconclusive", 3)], 2),
        ([report("error", 2), report("divergent", 1)], 1),
        ([report("divergent", 0)], 0),  # nothing was asserted
        ([{"verdict": "error"}], 2),
        ([{"verdict": "match", "findings": 3, "assertion": [], "first_divergence": "x"}], 0),
    ],
)
def test_exit_code(tmp_path: Path, said: list[dict[str, Any] | None], code: int) -> None:
    assert matrix(tmp_path, *said).exit_code == code


def test_narrow_screens_get_cards(tmp_path: Path) -> None:
    text = matrix(tmp_path, report("match", 0), report("match", 0)).to_text(12)
    assert "- pair" in text
