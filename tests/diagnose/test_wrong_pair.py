"""Two models are told at sight where nothing of one is in the other, and never where one is the other in disguise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from rosetta.diagnose.hypotheses.low_rank import difference_of_low_rank
from rosetta.diagnose.search import Search
from tests.test_weight_cache import copy

SPEC = tiny("llama", hidden=256, head_dim=64, ffn=384)
Values = NDArray[Any]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose causes are searched; every matrix counts as large."""
    monkeypatch.setattr("rosetta.diagnose.wrong_pair.LARGE", 1)
    stages: list[str] = []
    monkeypatch.setattr(Search, "run", lambda search: stages.append(search.fault.stage))
    return stages


def all_changed(change: Callable[[Values], Values]) -> Callable[[FileContents], FileContents]:
    """Every tensor's values changed."""

    def changed(file: FileContents) -> FileContents:
        for name in file.tensors:
            file = file.with_values(name, change(file.values(name)).astype(np.float32))
        return file

    return changed


def drawn(values: Values) -> Values:
    """Other values of the same mean and deviation."""
    return np.random.default_rng(5).standard_normal(values.shape) * values.std() + values.mean()


def test_unrelated_models_are_told_without_a_search(searched: list[str], tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "gguf:F32", "gguf:Q8_0", all_changed(drawn))
    assert not searched
    [found] = report.findings
    assert (found.kind, found.status) == ("value.other_weights", "suspected")
    assert "unrelated weights" in found.message
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == "embedding"
    assert report.weights.differing == report.weights.compared, "all are compared nevertheless"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: np.ascontiguousarray(x[::-1]), id="rows turned round"),
        pytest.param(lambda x: np.roll(x.ravel(), 8).reshape(x.shape), id="shifted"),
        pytest.param(lambda x: -3 * x, id="scaled"),
        pytest.param(lambda x: x if x.ndim == 1 else drawn(x), id="vectors are the same"),
    ],
)
def test_what_has_a_cause_is_searched(
    change: Callable[[Values], Values], searched: list[str], tmp_path: Path
) -> None:
    compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", all_changed(change))
    assert searched[0] == "embedding"


def test_no_adapter_is_looked_for_between_large_copies_that_share_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = (2048, 1024)
    a, b = copy("w", "F32", dims=large), copy("w", "F32", seed=1, dims=large)
    monkeypatch.setattr("rosetta.diagnose.hypotheses.low_rank.row_ranges", None)  # all of it would be read
    assert difference_of_low_rank(a, b) is None
