"""What a person at a terminal sees while work goes on, and what an interrupted run leaves: on a real terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fixtures.bench.speed_pair import Pair, write_pair
from fixtures.bench.speed_shapes import shape_of

LAYERS = 96  # a second's work, so that the bar is drawn several times
# A test run in the background of a shell ignores Ctrl-C, and so would the program that it starts.
PROGRAM = "from signal import *; signal(SIGINT, default_int_handler); from rosetta.cli import main; main()"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_pair(replace(shape_of("tiny"), layers=LAYERS), tmp_path_factory.mktemp("pair"))


@dataclass
class Session:
    """A comparison whose stderr is a terminal."""

    process: subprocess.Popen[bytes]
    screen: int

    def lines(self) -> Iterator[str]:
        """What the terminal is sent, piece by piece, up to the end of the program."""
        while True:
            try:
                piece = os.read(self.screen, 4096)
            except OSError:  # Linux says so when nobody has the other end open
                return
            if not piece:
                return
            yield piece.decode("utf-8", "replace")


@pytest.fixture
def session(pair: Pair, tmp_path: Path) -> Iterator[Session]:
    screen, terminal = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, pair.apr, pair.gguf, "--json", tmp_path / "report.json"]
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")
    }
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=terminal, env=kept | {"TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(terminal)
    try:
        yield Session(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def test_progress_says_what_how_far_and_how_long(session: Session, tmp_path: Path) -> None:
    sent = "".join(session.lines())
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)  # without colours and the cursor's moves
    assert session.process.wait(20) == 0
    assert "starting" in seen
    drawn = [(int(layer), int(done)) for layer, done in re.findall(rf"layer (\d+) \D*(\d+)/{LAYERS}", seen)]
    assert len(set(drawn)) > 1, "the bar does not move"
    assert all(layer == done for layer, done in drawn)
    assert drawn == sorted(drawn), "the bar goes back"
    assert re.search(r"0:00:0\d", seen)
    assert sent.endswith("\x1b[2K"), "the bar is wiped off at the end"
    assert (tmp_path / "report.json").is_file()


def test_ctrl_c_in_the_middle_leaves_no_report_and_a_usable_terminal(
    session: Session, tmp_path: Path
) -> None:
    lines, seen = session.lines(), ""
    while "starting" not in seen:  # a quick machine may be done before the first layer is seen here
        seen += next(lines)
    session.process.send_signal(signal.SIGINT)
    seen += "".join(lines)
    assert session.process.wait(20) in (130, -signal.SIGINT)  # a shell says 130 of both
    assert seen.endswith("rosetta: interrupted\r\n")
    assert "Traceback" not in seen
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l"), "the cursor stays hidden"
    assert list(tmp_path.iterdir()) == []
