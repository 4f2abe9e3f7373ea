"""The reports of a sweep's jobs, whole: the matrix needs no more than their verdicts, a page all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rosetta.errors import RosettaError
from rosetta.report.build import error_report
from rosetta.report.report import Report
from rosetta.report.stored import read_report
from rosetta.sweep.job import Job
from rosetta.sweep.sweep import stored

MISSING = "there is no report yet"


def collected(jobs: Sequence[Job], folder: Path) -> dict[str, Report]:
    """A report of each job by its id; of an error where there is none, or one that cannot be read.

    One that says of no prompt what was asked is given what other jobs ran for the prompt of that name.
    """
    found = {job.id: _report(job, folder) for job in jobs}
    ran = {job.prompt.name: found[job.id].prompt for job in jobs if found[job.id].prompt is not None}
    for job in jobs:
        report = found[job.id]
        if report.prompt is None and not report.tokens.left:
            found[job.id] = report.model_copy(update={"prompt": ran.get(job.prompt.name, job.prompt.name)})
    return found


def _report(job: Job, folder: Path) -> Report:
    said = MISSING
    if stored(job, folder) is not None:
        try:
            return read_report(job.report_in(folder))
        except RosettaError as error:
            said = str(error)
    return error_report({"left": job.left, "right": job.right}, said, None, job.prompt.text)
