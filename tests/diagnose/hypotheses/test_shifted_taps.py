"""A convolution whose taps stand some places too early or too late is one finding that says by how many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files
from fixtures.planting import planted

pytestmark = pytest.mark.requires_transformers
NAME = "blk.1.ssm_conv1d.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("transformers")
    return tiny_pair(tmp_path_factory.mktemp("mamba2"), "mamba2")


def round_the_end(taps: Any) -> Any:
    return np.roll(taps, 1, -1)


def off_the_end(taps: Any) -> Any:
    return np.concatenate([0 * taps[..., :1], taps[..., :-1]], -1)


def off_the_start(taps: Any) -> Any:
    return np.concatenate([taps[..., 1:], 0 * taps[..., :1]], -1)


@pytest.mark.parametrize(("change", "places"), [(round_the_end, 1), (off_the_end, 1), (off_the_start, -1)])
def test_moved_taps_are_put_back(
    sound: tuple[Path, Path], tmp_path: Path, change: Callable[[Any], Any], places: int
) -> None:
    broken = planted(sound[1], tmp_path / "model.gguf", {NAME: change})
    report = compared_files(broken, sound[0])
    assert_proven(report, "layers.1.ssm_conv", Cause("layout.shifted", NAME, actual=places))
    [found] = report.findings
    assert found.evidence is not None
    assert (found.evidence.from_reference is None) == (change is round_the_end)


def test_taps_in_the_reverse_order_are_not_called_moved(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = planted(sound[1], tmp_path / "model.gguf", {NAME: lambda taps: taps[..., ::-1]})
    assert_proven(compared_files(broken, sound[0]), "layers.1.ssm_conv", Cause("layout.permuted", NAME))
