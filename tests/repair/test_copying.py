"""Two models that are not one: a copy is refused with its share, and made where it is asked for by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixtures import build, model_spec
from fixtures.comparing import tiny
from tests.repair.conftest import Repair, tensors

CONTAINERS = ("gguf:F16", "apr:F16", "hf:F16")


@pytest.fixture(params=CONTAINERS)
def unrelated(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Two models of one architecture with nothing in common, the right one a GGUF file."""
    left, right = (model_spec("llama", layers=1, seed=seed) for seed in (1, 2))
    return build(tmp_path / "a", left, request.param), build(tmp_path / "b", right, "gguf:F16")


def test_copy_of_another_model_is_refused_with_its_share(
    unrelated: tuple[Path, Path], repair: Repair
) -> None:
    run = repair(*unrelated, copy=False)
    assert run.code == 2
    assert not run.fixed.exists()
    share = re.search(r"(\d+)% of the tensors' bytes would come from (\S+): that is a copy of it", run.err)
    assert share is not None, run.err
    assert int(share[1]) >= 99
    assert share[2] == str(unrelated[1])
    assert "--allow-copy" in run.err


def test_copy_that_is_asked_for_is_made_and_called_one(unrelated: tuple[Path, Path], repair: Repair) -> None:
    run = repair(*unrelated)
    assert run.code == 0, run.out + run.err
    assert "100% of the tensors' bytes are a copy of" in run.out
    assert run.out.count(f"(from {unrelated[1]})") == len(tensors(run.fixed))


def test_copy_of_a_file_of_the_same_container_has_its_bytes(tmp_path: Path, repair: Repair) -> None:
    left, right = (build(tmp_path / str(seed), tiny("llama", seed=seed), "gguf:Q8_0") for seed in (1, 2))
    run = repair(left, right)
    assert run.code == 0, run.out + run.err
    assert tensors(run.fixed) == tensors(right)


@pytest.mark.parametrize("copy", [False, True])
def test_model_of_another_size_is_not_copied_into_one(tmp_path: Path, repair: Repair, copy: bool) -> None:
    left = build(tmp_path / "a", model_spec("llama", layers=1, hidden=128, ffn=192), "gguf:F16")
    right = build(tmp_path / "b", model_spec("llama", layers=1, seed=2), "gguf:F16")
    run = repair(left, right, copy=copy)
    assert run.code == 2
    assert not run.fixed.exists()
    assert "a model of another size" in run.err
    assert "take the other file itself" in run.err
