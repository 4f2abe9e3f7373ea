"""Which jobs are run, and what stands where one died."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fixtures import reports
from rosetta.errors import UsageError
from rosetta.sweep.executors import Limits, Outcome, executor, names
from rosetta.sweep.job import Job, Prompt
from rosetta.sweep.sweep import is_answered, run_jobs, shard_of, stored

JOBS = [Job(f"pair {n}", f"l{n}", f"r{n}", Prompt("p")) for n in range(3)]


class Pretended:
    """Writes a report for each job but the second, which dies."""

    def run(self, jobs: Sequence[Job], folder: Path, root: Path, limits: Limits) -> Iterator[Outcome]:
        for job in jobs:
            assert not job.report_in(folder).exists(), "yesterday's report stands there while it runs"
            died = job is JOBS[1]
            if not died:
                job.report_in(folder).write_text(reports.report().to_json(), encoding="utf-8")
            yield Outcome(job, -9 if died else 0, "its process was ended by SIGKILL" if died else "", 1.0)


def test_each_job_has_a_report_and_a_death_is_one_of_an_error(tmp_path: Path) -> None:
    JOBS[1].report_in(tmp_path).write_text('{"verdict": "match"}')
    ended: list[Outcome] = []
    run_jobs(JOBS, tmp_path, tmp_path, executor=Pretended(), limits=Limits(), ended=ended.append)
    assert [outcome.job for outcome in ended] == JOBS
    verdicts = [(stored(job, tmp_path) or {}).get("verdict") for job in JOBS]
    assert verdicts == ["match", "error", "match"]
    died = stored(JOBS[1], tmp_path)
    assert died is not None
    assert died["error"] == "its process was ended by SIGKILL"
    assert died["left"]["operand"] == "l1"
    assert [is_answered(job, tmp_path) for job in JOBS] == [True, False, True]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"verdict": 3}', "[" * 100_000])
def test_half_a_report_is_none(tmp_path: Path, text: str) -> None:
    JOBS[0].report_in(tmp_path).write_text(text)
    assert stored(JOBS[0], tmp_path) is None


def test_shards_are_disjoint_and_all() -> None:
    parts = [shard_of(f"{i}/4").of(list(range(10))) for i in range(1, 5)]  # type: ignore[arg-type]
    assert sorted(n for part in parts for n in part) == list(range(10))  # type: ignore[type-var]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "²/3"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="--shard is I/N"):
        shard_of(text)


def test_an_executor_that_there_is_not() -> None:
    assert "processes" in names()
    with pytest.raises(UsageError, match="no executor is called 'cloud': there are processes, ray"):
        executor("cloud")


def test_a_report_is_json_of_the_schema(tmp_path: Path) -> None:
    run_jobs(JOBS, tmp_path, tmp_path, executor=Pretended(), limits=Limits(), ended=lambda outcome: None)
    assert json.loads(JOBS[1].report_in(tmp_path).read_text())["schema_version"] == "1.0"
