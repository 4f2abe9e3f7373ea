"""What is refused, what is never touched, and what is left behind when the work is cut short: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import faults, model_spec, pair
from rosetta.containers.unfinished import publish
from rosetta.errors import UsageError
from tests.repair.conftest import Repair

SPEC = model_spec("qwen2")
EPSILON = faults.norm_epsilon(1e-2)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "inputs"
    return pair(folder, SPEC, "apr:F16", "gguf:F16", EPSILON)


@pytest.mark.parametrize("which", [0, 1])
def test_an_input_is_no_output(repair: Repair, two: tuple[Path, Path], which: int) -> None:
    run = repair(*two, fixed=two[which])
    assert run.code == 2
    assert "is an input, which is never touched" in run.err


def test_a_link_to_an_input_is_no_output(tmp_path: Path, repair: Repair, two: tuple[Path, Path]) -> None:
    for number, link in enumerate((os.symlink, os.link)):
        name = tmp_path / f"link{number}"
        link(two[0], name)
        run = repair(*two, fixed=name)
        assert run.code == 2
        assert "is an input" in run.err


def test_what_exists_is_not_overwritten(tmp_path: Path, repair: Repair, two: tuple[Path, Path]) -> None:
    taken = tmp_path / "taken.apr"
    taken.write_text("precious")
    run = repair(*two, fixed=taken)
    assert run.code == 2
    assert "exists already, and nothing is overwritten" in run.err
    assert taken.read_text() == "precious"


def test_a_dangling_link_is_not_followed(tmp_path: Path, repair: Repair, two: tuple[Path, Path]) -> None:
    link = tmp_path / "dangling"
    link.symlink_to(tmp_path / "nowhere")
    assert repair(*two, fixed=link).code == 2
    assert not (tmp_path / "nowhere").exists()


def test_a_place_inside_an_input_folder_is_refused(tmp_path: Path, repair: Repair) -> None:
    left, right = pair(tmp_path / "in", SPEC, "hf:F16", "gguf:F16", EPSILON)
    run = repair(left, right, fixed=left / "fixed")
    assert run.code == 2
    assert "lies inside the input" in run.err


def test_a_missing_folder_is_said_before_the_work(
    tmp_path: Path, repair: Repair, two: tuple[Path, Path]
) -> None:
    run = repair(*two, fixed=tmp_path / "no" / "fixed.apr")
    assert run.code == 2
    assert "its folder does not exist" in run.err
    assert "LOAD" not in run.err


def test_nothing_to_repair_writes_nothing(tmp_path: Path, repair: Repair) -> None:
    left, right = pair(tmp_path, SPEC, "apr:F16", "gguf:F16")
    run = repair(left, right)
    assert (run.code, run.fixed.exists()) == (0, False)
    assert "Nothing to repair" in run.out


def test_drift_beyond_an_explicit_threshold_is_no_pass_with_nothing_to_repair(
    tmp_path: Path, repair: Repair
) -> None:
    left, right = pair(tmp_path, SPEC, "apr:F16", "gguf:Q8_0")
    assert repair(left, right).code == 0
    run = repair(left, right, "--threshold", "1e-3")
    assert (run.code, run.fixed.exists()) == (1, False)
    assert "Nothing to repair" in run.out


def test_a_damaged_input_is_one_line(tmp_path: Path, repair: Repair, two: tuple[Path, Path]) -> None:
    damaged = tmp_path / "damaged.apr"
    damaged.write_bytes(two[0].read_bytes()[:1000])
    run = repair(damaged, two[1])
    assert (run.code, len(run.err.splitlines()), run.fixed.exists()) == (2, 1, False)


@pytest.mark.parametrize("left", ["apr:F16", "gguf:F16", "hf-sharded:F16"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    wrong, believed = pair(tmp_path, SPEC, left, "hf:F32", faults.transposed("blk.0.attn_k.weight"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run = repair(wrong, believed)  # the fixture checks that nothing is left
    assert (run.code, run.fixed.exists()) == (2, False)
    assert run.err.splitlines()[-1] == (
        f"rosetta: {run.fixed}: cannot be written: no space left on device: make room there, or name a file on "
        "another disk"
    )


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    done, target = tmp_path / "done", tmp_path / "target"
    done.write_text("new")
    target.write_text("old")
    with pytest.raises(UsageError, match="exists already"):
        publish(done, target)
    assert target.read_text() == "old"


@pytest.mark.parametrize("left", ["apr:F16", "hf:F16"])
def test_ctrl_c_while_writing_leaves_nothing(tmp_path: Path, left: str) -> None:
    wrong, believed = pair(tmp_path, SPEC, left, "gguf:F16", faults.transposed("blk.0.attn_k.weight"))
    inputs = sorted(path.name for path in tmp_path.iterdir())
    code = (
        "import signal, sys, time, os; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "os.fsync = lambda *a: (print('writing', flush=True), time.sleep(60)); "
        "from rosetta.cli import main; sys.argv = ['rosetta', 'repair', *sys.argv[1:]]; main()"
    )
    command = [sys.executable, "-c", code, str(wrong), str(believed), "-o", str(tmp_path / "fixed")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == inputs
