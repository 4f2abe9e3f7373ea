"""The reports of a sweep's jobs, those that are not there among them."""

from __future__ import annotations

from pathlib import Path

from fixtures import reports
from rosetta.sweep.collected import collected
from rosetta.sweep.job import Job, Prompt

JOBS = [Job(f"pair {n}", f"l{n}", f"r{n}", Prompt("p", {"prompt-file": "p.txt"})) for n in range(3)]


def test_a_job_that_never_ran_has_the_prompt_that_its_manifest_says(tmp_path: Path) -> None:
    jobs = [
        Job("pair", "l", "r", prompt) for prompt in (Prompt("default"), Prompt("long", {"prompt": "a b"}))
    ]
    assert [report.prompt for report in collected(jobs, tmp_path).values()] == ["2+2=", "a b"]


def test_each_job_has_a_report_under_its_id(tmp_path: Path) -> None:
    own = reports.report()
    JOBS[0].report_in(tmp_path).write_text(own.to_json())
    JOBS[2].report_in(tmp_path).write_text('{"schema_version": "1.0", "verdict": "match", "stages": 3}')
    found = collected(JOBS, tmp_path)
    assert list(found) == [job.id for job in JOBS]
    there, missing, broken = found.values()
    assert there == own
    assert (missing.verdict, missing.reason, missing.left.operand) == (
        "error",
        "there is no report yet",
        "l1",
    )
    assert broken.verdict == "error"
    assert "is no valid report" in broken.reason
    assert {report.prompt for report in found.values()} == {own.prompt}, "a column of its own in the page"
