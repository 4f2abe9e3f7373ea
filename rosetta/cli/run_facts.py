"""Which run of the program this is: when, where, with what; what a report needs to be found again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rosetta.errors import without_secrets

if TYPE_CHECKING:
    from rosetta.report.report import Git, RunFacts

LIBRARIES = ("torch", "numpy", "gguf", "tokenizers", "transformers", "llama-cpp-python")
SECONDS = 5.0  # that git may take


def started_now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def run_facts(started: str) -> RunFacts:
    """This process as a report tells of it.

    Args:
        started: when it began, as `started_now` says it.
    """
    from rosetta.report.report import Host, RunFacts  # imports pydantic: not at the program's start

    return RunFacts(
        id=uuid.uuid4().hex,
        started=started,
        argv=[without_secrets(argument) for argument in sys.argv],
        versions={"python": platform.python_version(), **_versions()},
        host=Host(
            name=platform.node(),
            system=f"{platform.system()} {platform.release()}",
            machine=platform.machine(),
            cpus=os.cpu_count() or 1,
        ),
        git=_git(),
    )


def _versions() -> dict[str, str]:
    """Of the libraries that are there."""
    from importlib.metadata import PackageNotFoundError, version  # imports mail's parser: not at the start

    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git() -> Git | None:
    """The checkout around the current folder; None where there is none, or no git."""
    from rosetta.report.report import Git

    commit = _said("rev-parse", "HEAD")
    if not commit:
        return None
    branch = _said("symbolic-ref", "--short", "-q", "HEAD")
    changed = _said("status", "--porcelain", "--untracked-files=no")
    return Git(commit=commit, branch=branch or None, dirty=bool(changed))


def _said(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
