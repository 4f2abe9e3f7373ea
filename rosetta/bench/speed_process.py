"""What a command costs as a process of its own: wall time, processor time, peak resident memory, exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rosetta.errors import RosettaError

LAUNCHER = Path(__file__).with_name("speed_launcher.py")
SHOWN = 300  # characters of what a failed command said


@dataclass(frozen=True)
class Cost:
    """One run of a command.

    Args:
        code: exit code; the negative number of a signal.
        wall_s, processor_s: seconds; the latter of all threads, in the kernel too.
        peak_bytes: largest resident memory, mapped file pages included.
    """

    code: int
    wall_s: float
    processor_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Costs:
    """All runs of a command."""

    runs: tuple[Cost, ...]

    @property
    def best_s(self) -> float:
        """Shortest wall time, seconds."""
        return min(run.wall_s for run in self.runs)

    @property
    def median_s(self) -> float:
        """Median wall time, seconds."""
        return median(run.wall_s for run in self.runs)

    @property
    def processor_s(self) -> float:
        """Least processor time, seconds."""
        return min(run.processor_s for run in self.runs)

    @property
    def peak_bytes(self) -> int:
        """Largest memory of all runs."""
        return max(run.peak_bytes for run in self.runs)


def cost_of(command: Sequence[str], expected: int = 0) -> Cost:
    """Run a command in a fresh process.

    Args:
        command: an absolute path and its arguments.
        expected: its right exit code.

    Raises:
        RosettaError: it ended with another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "stderr"
        launched = [sys.executable, "-S", "-E", str(LAUNCHER), str(errors), *command]
        done = subprocess.run(launched, stdout=subprocess.PIPE, check=True, text=True)
        cost = Cost(**json.loads(done.stdout))
        said = errors.read_text(encoding="utf-8", errors="replace").strip()
    if cost.code != expected:
        last = said.splitlines()[-1][-SHOWN:] if said else "it said nothing"
        what = " ".join(command[1:5])
        raise RosettaError(f"'{what} …' ended with exit code {cost.code}, expected {expected}: {last}")
    return cost
