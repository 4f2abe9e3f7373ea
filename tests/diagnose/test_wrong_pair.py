"""Two models are told at sight where nothing of one is in the other, and never where one is the other in disguise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures import build
from fixtures.comparing import compared, compared_files, tiny
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


def test_unrelated_models_are_told_before_their_large_matrices_are_compared(
    searched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rosetta.compare.at_sight.SAMPLED", 1024)
    report = compared(tmp_path, SPEC, "gguf:F32", "gguf:Q8_0", all_changed(drawn))
    [found] = report.findings
    assert "unrelated weights" in found.message
    matrices = [row for row in report.weights.differing_tensors if len(row.left_dims or ()) == 2]
    assert len(matrices) > 10
    assert all("rows that were looked at" in row.note for row in matrices)
    assert all(abs(row.cosine or 0.0) < 0.2 for row in matrices)
    local = {stage.name: stage.local for stage in report.stages if stage.status == "faulty"}
    assert local["embedding"] is not None, "the finding's evidence"
    assert local["layers.0.q"] is None, "of the rounding of two models there is nothing to say"


@pytest.mark.parametrize(
    ("change", "words"),
    [(drawn, "unrelated weights"), (lambda x: x + 0.3 * drawn(x), "a fine-tune")],
    ids=["unrelated", "fine-tune"],
)
@pytest.mark.parametrize("stop", [True, False])
def test_two_models_are_told_by_a_search_that_finds_no_cause(
    stop: bool, change: Callable[[Values], Values], words: str, tmp_path: Path
) -> None:
    """A run that ends at its first fault sees one matrix without a cause; the sample of all of them says the rest."""
    report = compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", all_changed(change), stop_at_first=stop)
    [found] = report.findings
    assert (found.kind, found.tensor, found.evidence and found.evidence.stage) == (
        "value.other_weights",
        None,
        "embedding",
    )
    assert words in found.message
    assert len(report.stages) == 2 if stop else len(report.stages) > 30


def test_two_architectures_are_not_said_to_be_one(tmp_path: Path) -> None:
    other = tiny("qwen2", hidden=256, head_dim=64, ffn=384)
    left = build(tmp_path / "left", other, "gguf:F32", all_changed(drawn))
    report = compared_files(left, build(tmp_path / "right", SPEC, "gguf:F32"))
    assert "unrelated weights: " in report.findings[0].message


def test_one_matrix_without_a_cause_is_no_wrong_pair(tmp_path: Path) -> None:
    def fault(file: FileContents) -> FileContents:
        return file.with_values(
            "token_embd.weight", drawn(file.values("token_embd.weight")).astype(np.float32)
        )

    report = compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", fault, stop_at_first=True)
    assert [found.tensor for found in report.findings] == ["token_embd.weight"]


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


def norms_changed(change: Callable[[Values], Values]) -> Callable[[FileContents], FileContents]:
    return all_changed(lambda values: change(values) if values.ndim == 1 else values)


def trained_on(values: Values) -> Values:
    """Norms a little further, each value by another part of it."""
    return values * (1 + 0.004 * np.random.default_rng(7).standard_normal(values.shape))


def test_a_fine_tune_beneath_the_noise_of_its_matrices_is_told_by_its_norms(tmp_path: Path) -> None:
    wide = norms_changed(lambda values: values * np.random.default_rng(3).uniform(0.5, 2, values.shape))
    base = build(tmp_path, SPEC, "gguf:F32", wide, stem="base")
    for dtype in ("gguf:Q8_0", "gguf:Q4_0"):
        report = compared_files(
            build(tmp_path, SPEC, dtype, [wide, norms_changed(trained_on)], stem="tuned"), base
        )
        [found] = report.findings
        assert (found.kind, found.tensor) == ("value.other_weights", None)
        assert "5 of 5 norms and biases differ" in found.message
        assert "fine-tune" in found.message


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x.astype(np.float16).astype(np.float32), id="rounded to halves"),
        pytest.param(lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32), id="cut off to BF16"),
        pytest.param(drawn, id="damaged"),
    ],
)
def test_norms_that_were_rounded_or_damaged_make_no_two_models(
    change: Callable[[Values], Values], tmp_path: Path
) -> None:
    wide = norms_changed(
        lambda values: (values * np.random.default_rng(3).uniform(0.5, 2, values.shape)).astype(np.float32)
    )
    base = build(tmp_path, SPEC, "gguf:F32", wide, stem="base")
    report = compared_files(
        build(tmp_path, SPEC, "gguf:Q8_0", [wide, norms_changed(change)], stem="changed"), base
    )
    assert report.findings
    assert ("value.other_weights", None) not in {(found.kind, found.tensor) for found in report.findings}


def test_a_rotated_residual_stream_is_one_model_in_another_basis(tmp_path: Path) -> None:
    """As SpinQuant and QuaRot turn it: norms are folded, and every matrix is in another basis."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((64, 64)))

    def rotated(file: FileContents) -> FileContents:
        values = {name: file.values(name).astype(np.float64) for name in file.tensors}
        for layer in range(2):
            for norm, readers in (
                ("attn_norm", ("attn_q", "attn_k", "attn_v")),
                ("ffn_norm", ("ffn_gate", "ffn_up")),
            ):
                factors = values[f"blk.{layer}.{norm}.weight"]
                for reader in readers:
                    values[f"blk.{layer}.{reader}.weight"] = (
                        values[f"blk.{layer}.{reader}.weight"] * factors @ turn
                    )
                values[f"blk.{layer}.{norm}.weight"] = np.ones_like(factors)
            for writer in ("attn_output", "ffn_down"):
                values[f"blk.{layer}.{writer}.weight"] = turn.T @ values[f"blk.{layer}.{writer}.weight"]
        values["token_embd.weight"] = values["token_embd.weight"] @ turn
        values["output.weight"] = values["output.weight"] * values["output_norm.weight"] @ turn
        values["output_norm.weight"] = np.ones(64)
        for name, one in values.items():
            file = file.with_values(name, one.astype(np.float32))
        return file

    report = compared(tmp_path, tiny("llama", tied=False), "gguf:F32", "hf:F32", rotated)
    (found,) = report.findings
    assert (found.kind, found.status) == ("value.rotated", "suspected")
    assert "its logits agree" in found.message
