"""Run the jobs of a sweep that have no report yet, and see to it that each has one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosetta.errors import UsageError
from rosetta.sweep.executors import Executor, Limits, Outcome
from rosetta.sweep.job import Job

LARGEST_REPORT = 256 << 20  # bytes; what is larger was not written by us


@dataclass(frozen=True)
class Shard:
    """Every n-th job, from the i-th on: what one of n machines does.

    Args:
        index: from 1.
        count: of all.
    """

    index: int
    count: int

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs of this shard."""
        return list(jobs[self.index - 1 :: self.count])


def shard_of(text: str) -> Shard:
    """`2/8`.

    Raises:
        UsageError: it is not so written.

    >>> shard_of("2/8").of("abcdefghij")
    ['b', 'j']
    """
    index, slash, count = text.partition("/")
    numbers = all(part.isascii() and part.isdigit() and len(part) < 7 for part in (index, count))
    if not (slash and numbers and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard is I/N, such as 2/8, not {text[:40]!r}")
    return Shard(int(index), int(count))


def stored(job: Job, folder: Path) -> dict[str, Any] | None:
    """The report of a job that is there whole; None where there is none."""
    path = job.report_in(folder)
    try:
        if path.stat().st_size > LARGEST_REPORT:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("verdict"), str) else None


def is_answered(job: Job, folder: Path) -> bool:
    """Whether a job has a report that says something: one of an error is no answer, what was wrong may be mended."""
    report = stored(job, folder)
    return report is not None and report["verdict"] != "error"


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    root: Path,
    *,
    executor: Executor,
    limits: Limits,
    ended: Callable[[Outcome], None],
) -> None:
    """Run jobs; each has a report in the folder afterwards, of an error where its process left none.

    Args:
        jobs: to run.
        folder: of the reports.
        root: the folder that operands are seen from.
        executor: that runs them.
        limits: of each.
        ended: told of each as it ends.
    """
    for job in jobs:
        job.report_in(folder).unlink(missing_ok=True)  # yesterday's must not stand there
    for outcome in executor.run(jobs, folder, root, limits):
        if stored(outcome.job, folder) is None:
            _write_error(outcome, folder)
        ended(outcome)


def _write_error(outcome: Outcome, folder: Path) -> None:
    from rosetta.report.build import error_report  # imports torch: only where something went wrong

    job = outcome.job
    said = outcome.said or f"its process left no report (exit code {outcome.code})"
    report = error_report({"left": job.left, "right": job.right}, said, None, job.prompt.text)
    path = job.report_in(folder)
    part = path.with_suffix(".part")
    part.write_text(report.to_json(), encoding="utf-8")
    part.replace(path)
