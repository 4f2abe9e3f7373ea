"""The benchmark of speed: builds a pair, times whole processes of the command line, and what they are held against."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosetta.bench.speed_pair import Pair, fault_tensor, write_faulty, write_pair, write_unquantised
from rosetta.bench.speed_process import Costs, cost_of
from rosetta.bench.speed_shapes import Shape, growth
from rosetta.bench.speed_yardsticks import PACKAGES, why_not
from rosetta.errors import RosettaError

Progress = Callable[[str, int, int], None]
"""(what is being done, done, in all)."""

CLEAN, EARLY, LATE, MIXED = "clean", "early fault", "late fault", "BF16 against Q4_K_M"
READ, FORWARD = "read both files", "forward pass"
STRIDE = 7919  # a prime: the ids of a prompt lie all over the vocabulary
OUTSIDE = 3  # stages that no layer has: embedding, final_norm, logits; and the tokens are one more
IN_LAYER = 16  # of llama and qwen2


@dataclass(frozen=True)
class Row:
    """What one thing costs.

    Args:
        name: the thing.
        costs: of its runs; None where it could not be run.
        note: why not.
    """

    name: str
    costs: Costs | None
    note: str = ""


@dataclass(frozen=True)
class Point:
    """A clean comparison somewhere in a series: what grows there, its value, the pair's bytes, the cost."""

    series: str
    value: int
    file_bytes: int
    costs: Costs


@dataclass(frozen=True)
class Measured:
    """What a benchmark found.

    Args:
        shape: of the pair; the base of the series.
        tokens: length of the prompt.
        file_bytes: of both files together.
        rows: what was run.
        points: of the growth tables.
        load: load averages over one minute, before and after.
    """

    shape: Shape
    tokens: int
    file_bytes: int
    rows: tuple[Row, ...]
    points: tuple[Point, ...]
    load: tuple[float, float]


def run_speed(
    shape: Shape,
    runs: int,
    tokens: int,
    place: Path,
    progress: Progress,
    *,
    peers: bool = True,
    unquantised: bool = False,
) -> Measured:
    """Build a pair of the shape and time what is done with it.

    Args:
        shape: of the pair.
        runs: of each command.
        tokens: length of the prompt.
        place: an existing folder for the files.
        progress: told before each run.
        peers: whether llama.cpp and transformers run too.
        unquantised: whether the GGUF file is also compared with the BF16 one that it might be made of.

    Raises:
        UsageError: the disk has no room.
        RosettaError: a comparison ended otherwise than it must.
    """
    before = os.getloadavg()[0]
    progress(f"writing {shape.name}", 0, 0)
    pair = write_pair(shape, place)
    timed = Timed(runs, progress)
    ids = prompt(shape, tokens)
    rows = [
        timed(READ, yardstick("read", str(pair.apr), str(pair.gguf))),
        timed(FORWARD, yardstick("forward", str(pair.gguf), ids)),
    ]
    rows.append(compared(timed, CLEAN, shape, pair.apr, pair.gguf, ids))
    for name, layer in ((EARLY, 0), (LATE, shape.layers - 1)):
        progress(f"writing the {name}", 0, 0)
        faulty = write_faulty(shape, place, layer)
        rows.append(compared(timed, name, shape, faulty, pair.gguf, ids, layer))
        faulty.unlink()
    if unquantised:
        progress("writing the BF16 file", 0, 0)
        large = write_unquantised(shape, place)
        rows.append(compared(timed, MIXED, shape, large, pair.gguf, ids, verdict="drift"))
        large.unlink()
    if peers:
        rows += [_peer(timed, peer, shape, pair, ids) for peer in PACKAGES]
    load = (before, os.getloadavg()[0])
    return Measured(shape, tokens, _file_bytes(pair), tuple(rows), (), load)


def run_growth(base: Shape, runs: int, tokens: int, place: Path, progress: Progress) -> Measured:
    """Time clean comparisons while layers, prompt and width grow; the arguments are `run_speed`'s."""
    before, points = os.getloadavg()[0], []
    for series in growth(base, tokens):
        for value, shape, length in series.points:
            progress(f"writing {shape.name}", 0, 0)
            pair = write_pair(shape, place)
            name = f"{value} {series.name}"
            row = compared(Timed(runs, progress), name, shape, pair.apr, pair.gguf, prompt(shape, length))
            assert row.costs is not None
            points.append(Point(series.name, value, _file_bytes(pair), row.costs))
            pair.apr.unlink()
            pair.gguf.unlink()
    return Measured(base, tokens, 0, (), tuple(points), (before, os.getloadavg()[0]))


@contextmanager
def place_for(folder: Path | None, keep: bool) -> Iterator[Path]:
    """Where the files lie: the folder itself where they stay, else one that is removed with them."""
    if keep and folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with TemporaryDirectory(prefix="rosetta-speed-", dir=folder) as temporary:
        yield Path(temporary)


@dataclass
class Timed:
    """Runs commands, so many times each."""

    runs: int
    progress: Progress

    def __call__(self, name: str, command: Sequence[str], expected: int = 0) -> Row:
        costs = []
        for run in range(self.runs):
            self.progress(f"{name}, run {run + 1}", run, self.runs)
            costs.append(cost_of(command, expected))
        return Row(name, Costs(tuple(costs)))


def compared(
    timed: Timed,
    name: str,
    shape: Shape,
    left: Path,
    right: Path,
    ids: str,
    layer: int | None = None,
    verdict: str = "match",
) -> Row:
    """Time a comparison of a clean or a broken pair, and check each report.

    Args:
        timed: runs it.
        name: of the row.
        shape: of the pair.
        left, right: its files.
        ids: of the prompt.
        layer: the broken one; an early one is reported with `--stop-at-first`.
        verdict: due where no layer is broken.
    """
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = rosetta(str(left), str(right), "--tokens", ids, "--assert-match", "--json", str(report))
        if name == EARLY:
            command.append("--stop-at-first")
        row = timed(name, command, expected=0 if layer is None else 1)
        problem = wrong(json.loads(report.read_text()), shape, layer, name != EARLY, verdict)
    if problem is not None:
        raise RosettaError(f"the {name} comparison of {shape.name} is wrong: {problem}")
    return row


def wrong(
    report: dict[str, Any], shape: Shape, layer: int | None, whole: bool, verdict: str = "match"
) -> str | None:
    """What a report says that it must not, or None.

    Args:
        report: of the comparison.
        shape: of the pair.
        layer: the broken one.
        whole: whether the comparison went on to the end.
        verdict: due where no layer is broken.
    """
    if layer is not None:
        verdict = "divergent"
    if report["verdict"] != verdict:
        return f"its verdict is {report['verdict']}, not {verdict}"
    stages = sum(stage["status"] != "skipped" and stage["name"] != "tokens" for stage in report["stages"])
    if whole and stages != OUTSIDE + IN_LAYER * shape.layers:
        return f"it compared {stages} stages, not {OUTSIDE + IN_LAYER * shape.layers}"
    if layer is None:
        return f"it accuses {report['findings'][0]['message']}" if report["findings"] else None
    found = [(finding["tensor"], finding["kind"], finding["status"]) for finding in report["findings"]]
    planted = [(fault_tensor(layer), "value.scaled", "confirmed")]
    return None if found == planted else f"it found {found}, not {planted}"


def prompt(shape: Shape, tokens: int) -> str:
    """Ids of a prompt of this length, as `--tokens` takes them."""
    return ",".join(str(index * STRIDE % shape.vocabulary) for index in range(tokens))


def rosetta(*arguments: str) -> list[str]:
    """A command line of this very program."""
    return [sys.executable, "-m", "rosetta", *arguments]


def yardstick(*arguments: str) -> list[str]:
    """A command line of something else to time."""
    return [sys.executable, "-m", "rosetta.bench.speed_yardsticks", *arguments]


def _peer(timed: Timed, peer: str, shape: Shape, pair: Pair, ids: str) -> Row:
    reason = why_not(peer, shape.parameters)
    if reason is not None:
        return Row(peer, None, reason)
    return timed(peer, yardstick(peer, str(pair.gguf), ids))


def _file_bytes(pair: Pair) -> int:
    return pair.apr.stat().st_size + pair.gguf.stat().st_size
