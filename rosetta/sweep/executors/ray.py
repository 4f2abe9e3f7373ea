"""A Ray cluster: each job is a task with its cores, memory and GPU, tried again on another node when its node is lost.

The nodes see the models and the folder of reports under the same paths, as on a shared file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rosetta.errors import UsageError
from rosetta.sweep.executors import Limits, Outcome
from rosetta.sweep.job import Job

CUDA = "cuda"


class Ray:
    """Runs jobs as tasks of the cluster that `RAY_ADDRESS` names, or of one on this machine."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError("--executor ray needs Ray", remedy="pip install 'rosetta-trace[ray]'") from error
        self._ray: Any = ray

    def run(self, jobs: Sequence[Job], folder: Path, root: Path, limits: Limits) -> Iterator[Outcome]:
        """See `Executor`."""
        ray = self._ray
        mine = not ray.is_initialized()
        if mine:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        try:
            yield from self._outcomes(jobs, folder.resolve(), root.resolve(), limits)
        finally:
            if mine:
                ray.shutdown()

    def _outcomes(self, jobs: Sequence[Job], folder: Path, root: Path, limits: Limits) -> Iterator[Outcome]:
        ray = self._ray
        waiting, running = list(jobs)[::-1], dict[Any, Job]()
        # So many tasks are handed over at a time: a cluster of any size is kept busy, and an interrupted sweep leaves
        # few behind.
        at_once = limits.at_once or max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop()
                    running[self._submitted(job, folder, root, limits)] = job
                for task in ray.wait(list(running), num_returns=1)[0]:
                    yield self._outcome(task, running.pop(task))
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _submitted(self, job: Job, folder: Path, root: Path, limits: Limits) -> Any:
        needs: dict[str, Any] = {"num_cpus": 1, "max_retries": limits.retries}
        if limits.memory is not None:
            needs["memory"] = limits.memory
        if CUDA in (job.options.get(key) for key in ("device", "left-device", "right-device")):
            needs["num_gpus"] = 1
        return self._ray.remote(**needs)(run_one).remote(job, str(folder), str(root), limits)

    def _outcome(self, task: Any, job: Job) -> Outcome:
        try:
            found: Outcome = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            return Outcome(job, None, f"its node was lost: {said[0][:200]}", 0.0)
        return found


def run_one(job: Job, folder: str, root: str, limits: Limits) -> Outcome:
    """Run a job on the node that this is called on."""
    from rosetta.sweep.executors.processes import Processes

    one = Limits(at_once=1, memory=limits.memory, seconds=limits.seconds)
    os.makedirs(folder, exist_ok=True)
    return next(Processes().run([job], Path(folder), Path(root), one))


EXECUTOR = Ray
