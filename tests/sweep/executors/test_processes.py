"""Jobs as child processes: limits, deaths, retries. Children are stood in for by small programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rosetta.sweep.executors import Limits, Outcome, executor
from rosetta.sweep.job import Job, Prompt

WRITES = "open(sys.argv[1], 'w').write('{}')"
DIES = "import os; os.kill(os.getpid(), 9)"
EATS = "b = bytearray(1 << 30); print(len(b))"
SLEEPS = "import time; time.sleep(60)"
DIES_ONCE = "import os\nif not os.path.exists('once'): open('once', 'w').close(); os.kill(os.getpid(), 9)"


class Program(Job):
    """A job whose command line is a program instead of a comparison."""

    def arguments(self, report: str) -> list[str]:
        return [self.left, report]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run programs as jobs, by the executor of this machine."""
    (tmp_path / "stand_in.py").write_text(
        "import sys\nprogram = sys.argv.pop(1)\nprint('rosetta: said', file=sys.stderr, flush=True)\nexec(program)\n"
    )
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} {tmp_path}/stand_in.py "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr("rosetta.sweep.executors._child.sys.executable", str(interpreter))

    def run(*programs: str, **limits: object) -> list[Outcome]:
        jobs = [Program(str(n), program, "r", Prompt("p")) for n, program in enumerate(programs)]
        found = executor("processes").run(jobs, tmp_path, tmp_path, Limits(**limits))  # type: ignore[arg-type]
        return sorted(found, key=lambda outcome: outcome.job.pair)

    return run


def test_a_death_is_one_failed_job(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, died, last = run(WRITES, DIES, WRITES, at_once=2)
    assert (first.code, died.code, last.code) == (0, -9, 0)
    assert died.said == "its process was ended by SIGKILL (said)"
    assert first.job.report_in(tmp_path).read_text() == "{}"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_memory_is_limited(run) -> None:  # type: ignore[no-untyped-def]
    (hungry,) = run(EATS, memory=300 << 20)
    assert (hungry.code, hungry.said) == (1, "MemoryError")
    (fed,) = run(EATS, memory=2 << 30)
    assert fed.code == 0


def test_time_is_limited(run) -> None:  # type: ignore[no-untyped-def]
    (late,) = run(SLEEPS, seconds=0.2)
    assert (late.code, late.said) == (None, "it took over 0.2 seconds")


def test_a_process_that_died_is_tried_again(run) -> None:  # type: ignore[no-untyped-def]
    (outcome,) = run(DIES_ONCE, retries=1)
    assert outcome.code == 0


def test_what_is_left_is_ended_with_the_sweep(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    jobs = [Program(str(n), p, "r", Prompt("p")) for n, p in enumerate([WRITES, SLEEPS])]
    running = executor("processes").run(jobs, tmp_path, tmp_path, Limits(at_once=2))
    next(running)
    running.close()  # type: ignore[attr-defined]  # returns at once, though one job would sleep for a minute
