"""Child processes of this machine, as many at once as it has room for."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from rosetta.sweep.executors import Limits, Outcome
from rosetta.sweep.executors._child import Child
from rosetta.sweep.job import Job

TICK = 0.05  # seconds between two looks at the children


class Processes:
    """Runs each job in a process of its own: its crash is the end of one job."""

    def run(self, jobs: Sequence[Job], folder: Path, root: Path, limits: Limits) -> Iterator[Outcome]:
        """See `Executor`."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        at_once = max(1, min(limits.at_once or max(1, cores // 2), len(jobs)))
        waiting = deque((job, limits.retries) for job in jobs)
        running: list[tuple[Child, int]] = []
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job, retries = waiting.popleft()
                    report = job.report_in(folder).resolve()
                    child = Child(job, report, root, limits.memory, max(1, cores // at_once))
                    running.append((child, retries))
                for entry in list(running):
                    child, retries = entry
                    outcome = child.ended() or _late(child, limits.seconds)
                    if outcome is None:
                        continue
                    running.remove(entry)
                    if outcome.code is not None and outcome.code < 0 and retries:
                        waiting.append((outcome.job, retries - 1))
                    else:
                        yield outcome
                time.sleep(TICK)
        finally:
            for child, _ in running:
                child.stop("interrupted")


def _late(child: Child, seconds: float | None) -> Outcome | None:
    """How a job ended that lasted too long; None where it has not."""
    if seconds is None or child.seconds < seconds:
        return None
    return child.stop(f"it took over {seconds:g} seconds")


EXECUTOR = Processes
