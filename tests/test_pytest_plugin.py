"""The pytest plugin in a fresh project, as its documentation describes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fixtures import build, pair
from fixtures.faults import scaled
from rosetta import cli
from rosetta.errors import UsageError
from rosetta.pytest_plugin import ModelsDifferError, assert_models_match

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "pytest.md").read_text("utf-8")
# The plugin by its module: whether its entry point is installed is pip's business.
PLUGIN = ("-p", "no:rosetta", "-p", "rosetta.pytest_plugin")
EXPORT = """import shutil


def export(model, path):
    shutil.copyfile(model.parent.parent / "good.gguf", path)
    return path
"""


def documented(name: str) -> str:
    """A file that the guide shows."""
    found = re.search(rf"^`{re.escape(name)}`[^\n]*:\n\n```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def run(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a project's tests in a process of their own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]), "NO_COLOR": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-q", *PLUGIN, *options]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The documented repository, around a converter that copies a right export."""
    project = tmp_path / "converter"
    for folder in ("converter", "contracts", "tests", "build"):
        (project / folder).mkdir(parents=True)
    folder, file = pair(tmp_path, "llama", "hf:F16", "gguf:F16")
    shutil.copytree(folder, project / "tests" / "model-hf")
    shutil.copyfile(file, project / "good.gguf")
    shutil.copyfile(file, project / "build" / "model.gguf")
    (project / "converter" / "export.py").write_text(EXPORT)
    (project / "tests" / "test_export.py").write_text(documented("tests/test_export.py"))
    (project / "contracts" / "export-v1.yaml").write_text(documented("contracts/export-v1.yaml"))
    (project / "pyproject.toml").write_text("")
    return project


@pytest.mark.timeout(300)
def test_the_documented_repository_passes_and_keeps_its_reports(project: Path) -> None:
    done = run(project)
    assert done.returncode == 0, done.stdout
    names = sorted(path.name for path in (project / "rosetta-reports").iterdir())
    assert names == [
        "tests-test_export.py-test_a_copy_is_exact.json", "tests-test_export.py-test_an_export_is_the_model.json",
    ]  # fmt: skip
    report = json.loads((project / "rosetta-reports" / names[1]).read_text("utf-8"))
    assert (report["verdict"] in ("match", "drift"), report["prompt"]) == (True, "2+2=")


@pytest.mark.timeout(300)
def test_a_broken_export_fails_with_the_diagnosis_alone(project: Path) -> None:
    wrong = build(project, "llama", "gguf:F16", scaled("blk.0.ffn_up.weight", 2.0), stem="wrong")
    shutil.move(wrong, project / "good.gguf")
    done = run(project, "--rosetta-reports", "kept", "-k", "is_the_model")
    assert done.returncode == 1
    assert "does not match" in done.stdout
    assert "DIAGNOSIS: " in done.stdout
    assert "FAILED: wrong values at Layer 0 ffn_up" in done.stdout
    assert "def assert_models_match" not in done.stdout, "no line of rosetta's own code"
    (kept,) = (project / "kept").iterdir()
    assert json.loads(kept.read_text("utf-8"))["verdict"] == "divergent"
    assert str(kept) in done.stdout


def test_a_marker_that_says_nothing_known_is_refused(project: Path) -> None:
    (project / "tests" / "test_export.py").write_text(
        "import pytest\n\n@pytest.mark.rosetta(promt='x')\ndef test_it(assert_models_match):\n    pass\n"
    )
    done = run(project)
    assert done.returncode == 1
    assert "the marker rosetta takes prompt, tokens, strict, threshold, not promt" in done.stdout


def test_the_documented_contract_holds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["contracts", str(project / "contracts")]) == 0, capsys.readouterr().out


def test_strict_fails_on_drift_that_otherwise_passes(tmp_path: Path) -> None:
    left, right = pair(tmp_path, "llama", "gguf:Q4_0", "gguf:F32")
    assert assert_models_match(left, right, tokens=[3, 4, 5]).verdict == "drift"
    with pytest.raises(ModelsDifferError, match="DRIFT") as found:
        assert_models_match(left, right, tokens=[3, 4, 5], strict=True)
    assert found.value.report.assertion.exit_code == 1
    with pytest.raises(ModelsDifferError):
        assert_models_match(left, right, tokens=[3, 4, 5], threshold=1e-3)


@pytest.mark.parametrize("asked", [{"tokens": []}, {"threshold": float("nan")}, {"threshold": -1.0}])
def test_what_asserts_nothing_is_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    left, right = pair(tmp_path, "llama", "gguf:F16", "gguf:F32")
    with pytest.raises(UsageError):
        assert_models_match(left, right, **asked)


def test_the_entry_point_is_the_plugin() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][
        "pytest11"
    ]
    assert hasattr(import_module(points["rosetta"]), "pytest_configure")


def test_a_file_that_is_not_there_is_said_where_the_test_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or directory") as caught:
        assert_models_match(tmp_path / "left.gguf", tmp_path / "right.gguf")
    assert {Path(entry.path).name for entry in caught.traceback} == {Path(__file__).name, "pytest_plugin.py"}
