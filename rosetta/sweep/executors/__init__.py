"""Where the jobs of a sweep run. One file each; a file here that has a class `EXECUTOR` is offered by its name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from rosetta.errors import UsageError
from rosetta.sweep.job import Job


@dataclass(frozen=True)
class Limits:
    """What a job may take.

    Args:
        at_once: jobs that run at the same time; None: as the executor sees fit.
        memory: bytes a job may allocate; None: no limit.
        seconds: that a job may last; None: no limit.
        retries: of a job whose process died of no limit of ours.
    """

    at_once: int | None = None
    memory: int | None = None
    seconds: float | None = None
    retries: int = 0


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Args:
        job: which.
        code: exit code of its process; negative: the signal that ended it, None: it never ended by itself.
        said: the last line it wrote on stderr.
        seconds: it took.
    """

    job: Job
    code: int | None
    said: str
    seconds: float


class Executor(Protocol):
    """Runs jobs and says how each ended, as they end."""

    def run(self, jobs: Sequence[Job], folder: Path, root: Path, limits: Limits) -> Iterator[Outcome]:
        """Run jobs.

        Args:
            jobs: to run.
            folder: where each leaves its report, under its id.
            root: the folder that operands are seen from.
            limits: of each job.
        """
        ...


def names() -> list[str]:
    """Of all executors."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def executor(name: str) -> Executor:
    """The executor of a name.

    Raises:
        UsageError: there is none, or what it needs is not installed.
    """
    if name not in names():
        raise UsageError(f"no executor is called {name!r:.40}", remedy=f"there are {', '.join(names())}")
    found: Executor = import_module(f"{__name__}.{name}").EXECUTOR()
    return found
