"""What systems do differently, and the main job as Windows would run it, as far as that can be imitated elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import faults, pair
from fixtures.comparing import tiny
from rosetta import system
from rosetta.cli.options import refuse_unreadable
from rosetta.compare.options import live
from rosetta.errors import UsageError
from rosetta.report.html import _short

ROOT = Path(__file__).resolve().parents[1]


def without_posix(*arguments: object, encoding: str = "cp1252") -> subprocess.CompletedProcess[bytes]:
    """Run rosetta as Windows has it; its output in the encoding of a western console, in which ✓ has no place."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {
        "PYTHONPATH": path,
        "PYTHONIOENCODING": f"{encoding}:strict",
        "PYTHONUTF8": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-X",
        "warn_default_encoding",
        "-P",
        str(ROOT / "fixtures" / "no_posix.py"),
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, env=environment, check=False)


def test_every_module_is_imported_without_what_only_posix_has() -> None:
    result = without_posix()
    assert (result.returncode, result.stdout) == (0, b"all imported\n"), result.stderr.decode("cp1252")


def test_a_fault_is_found_and_every_report_written_without_it(tmp_path: Path) -> None:
    left, right = pair(
        tmp_path, tiny("qwen2"), "apr:F16", "gguf:F16", faults.transposed("blk.0.attn_k.weight"), side="left"
    )
    forms = {form: tmp_path / f"report.{form}" for form in ("json", "html", "junit", "sarif", "openmetrics")}
    options = [text for form, path in forms.items() for text in (f"--{form}", path)]
    result = without_posix(left, right, "--tokens", "1,2,3,4", "--assert-match", *options)
    said = result.stdout.decode("cp1252")
    assert result.returncode == 1, result.stderr.decode("cp1252")
    assert "FAILED: layout mismatch at Layer 0 k" in said
    assert "needs transpose" in said
    assert b"\r" not in forms["json"].read_bytes()
    assert all(path.stat().st_size for path in forms.values())
    report = json.loads(forms["json"].read_text("utf-8"))
    assert (report["verdict"], report["peak_rss_bytes"]) == ("divergent", 0)
    assert (
        sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    )  # nothing half written


def test_an_operand_may_have_a_drive_and_backslashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert live(r"transformers:C:\models\x") == ("transformers", r"C:\models\x")
    assert live(r"C:\models\x") is None
    assert _short(r"C:\models\model.gguf") == "model.gguf"
    _, right = pair(tmp_path, tiny("qwen2"), "apr:F16", "gguf:F16")
    Path(right).rename(r"C:\models\x.gguf")
    refuse_unreadable(r"C:\models\x.gguf", r"llamacpp:C:\models\x.gguf")
    Path(r"C:\models\x.gguf").rename(r"\models\y.gguf")
    with pytest.raises(UsageError, match="no such file"):  # and not: no runtime is called C
        refuse_unreadable(r"C:\models\y.gguf")


@pytest.mark.parametrize("calls", [("preadv", "pwrite"), ()], ids=["as on Windows", "as here"])
def test_a_file_is_read_and_written_by_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...]
) -> None:
    for name in calls:
        monkeypatch.delattr(os, name, raising=False)
    (tmp_path / "file").write_bytes(b"0123456789")
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    assert system.write_at(descriptor, memoryview(b"ab"), 4) == 2
    into = bytearray(4)
    assert (system.read_at(descriptor, memoryview(into), 3), into) == (4, b"3ab6")
    assert system.read_at(descriptor, memoryview(into), 10) == 0
    os.close(descriptor)


def test_peak_memory_is_what_the_kernel_counts() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux")
    (line,) = [line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM")]
    assert system.peak_memory() == pytest.approx(int(line.split()[1]) * 1024, rel=0.05)
