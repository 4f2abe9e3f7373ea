"""The engine believes only what a rerun proves, and says what it tried in vain."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import faults, reports
from fixtures.comparing import compared, faulty, tiny
from rosetta.compare.outcome import Outcome
from rosetta.diagnose.engine import _finding
from rosetta.diagnose.hypotheses import all_hypotheses
from rosetta.diagnose.hypothesis import Proposal, Repair

LLAMA = tiny("llama", tied=False)


def test_hypotheses_are_the_modules_of_their_package() -> None:
    folder = Path(__file__).parents[2] / "rosetta" / "diagnose" / "hypotheses"
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    assert {"transposed", "dtype_mislabeled", "norm_epsilon"} <= set(modules)
    assert len(all_hypotheses()) == len(set(all_hypotheses())) == len(modules)


def test_hypothesis_that_does_not_help_is_listed_as_refuted(tmp_path: Path) -> None:
    """A square matrix of which a region is random: turning it is tried, and its rerun disproves that."""
    fault = faults.corrupted("blk.0.attn_output.weight", 512, 300, seed=1)
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", fault)
    assert faulty(report) == ["layers.0.attn_out"]
    tried = {(entry.kind, entry.tensor) for entry in report.refuted}
    confirmed = {(found.kind, found.tensor) for found in report.findings if found.status == "confirmed"}
    assert tried & confirmed == set(), "one repair is proven and disproved"
    for entry in report.refuted:
        assert entry.stage == "layers.0.attn_out"
        assert entry.before is not None


def test_setting_that_differs_without_harm_is_refuted_where_a_weight_is_to_blame(tmp_path: Path) -> None:
    """Another epsilon so near that the norm does not show it, and a norm weight that is wrong."""
    near = 1e-5 * (1 + 1e-6)
    both = [faults.norm_epsilon(near), faults.offset("blk.0.attn_norm.weight", 0.5)]
    report = compared(tmp_path, LLAMA, "apr:F32", "gguf:F32", both)
    assert faulty(report) == ["layers.0.attn_norm"]
    assert [entry.kind for entry in report.refuted if entry.key] == ["config.norm_epsilon"]
    (entry,) = [entry for entry in report.refuted if entry.key]
    assert entry.before is not None
    assert entry.after == pytest.approx(entry.before, rel=1e-3)
    weight, setting = report.findings
    assert (weight.tensor, weight.status, weight.latent) == ("blk.0.attn_norm.weight", "confirmed", False)
    assert (setting.kind, setting.latent) == ("config.norm_epsilon", True), "it differs, and does not show"


def test_a_finding_that_no_rerun_proves_is_never_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rerun that always shows the fault, nothing may be called proven."""
    monkeypatch.setattr(Outcome, "faulty", property(lambda self: True))
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", faults.norm_epsilon(1e-3))
    assert {found.status for found in report.findings} == {"suspected"}
    assert {found.kind for found in report.findings} == {"unexplained"}


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize(("left", "right"), [("apr:F16", "gguf:Q8_0"), ("hf:BF16", "apr-gguf:F16")])
def test_clean_pair_has_no_findings_and_nothing_is_tried(
    tmp_path: Path, name: str, left: str, right: str
) -> None:
    report = compared(tmp_path, tiny(name, ffn=128), left, right)
    assert report.verdict in ("match", "drift")
    assert (report.findings, report.refuted, faulty(report)) == ([], [], [])
    assert report.timing.diagnose_s == 0


@pytest.mark.parametrize(
    "fault",
    [
        faults.transposed("blk.0.attn_k.weight"),
        faults.norm_epsilon(1e-3),
        faults.scaled("output.weight", 2.0),
    ],
)
def test_without_diagnosis_the_fault_is_located_and_nothing_is_accused(tmp_path: Path, fault: Any) -> None:
    with_it = compared(tmp_path / "a", LLAMA, "apr:F16", "gguf:F16", fault)
    without = compared(tmp_path / "b", LLAMA, "apr:F16", "gguf:F16", fault, diagnose=False)
    assert (without.findings, without.refuted, without.timing.diagnose_s) == ([], [], 0)
    assert with_it.findings != []
    assert faulty(without) == faulty(with_it)
    assert without.verdict == with_it.verdict == "divergent"
    assert without.first_divergence == with_it.first_divergence


def test_repairs_so_far_stay_in_place_for_the_stages_that_follow(tmp_path: Path) -> None:
    """An epsilon is wrong in every norm and found once; nothing after the first is accused again."""
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", faults.norm_epsilon(1e-2))
    assert len(faulty(report)) == 5
    assert len(report.findings) == 1


def test_same_fault_on_both_sides_is_no_difference(tmp_path: Path) -> None:
    report = compared(
        tmp_path, LLAMA, "apr:F16", "gguf:F16", faults.scaled("blk.0.ffn_up.weight", 2.0), "both"
    )
    assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.parametrize(
    ("before", "after", "differing", "status"),
    [
        (1.02, 0.99, (), "suspected"),  # across the limit, and by nothing
        (172.0, 0.65, (), "confirmed"),
        (1.3, 0.8, (), "confirmed"),
        (0.6, 0.59, ("blk.0.attn_q.weight",), "confirmed"),  # a block gave it away, and agrees now
    ],
)
def test_nothing_is_confirmed_without_a_real_drop_of_the_figure_that_decided(
    before: float, after: float, differing: tuple[str, ...], status: str
) -> None:
    def outcome(ratio: float, names: tuple[str, ...]) -> Any:
        local = reports.local(0.01, 0.02).model_copy(update={"worst_ratio": ratio})
        return SimpleNamespace(local=local, differing=names)

    block = SimpleNamespace(worst_ratio=5.0)
    fault: Any = SimpleNamespace(
        outcome=outcome(before, differing), layer=0, stage="layers.0.q", recorded=False,
        side=lambda role: "left", pair=SimpleNamespace(weights=SimpleNamespace(pair=lambda name: block)),
    )  # fmt: skip
    trial: Any = SimpleNamespace(outcome=outcome(after, ()))
    proposal = Proposal(
        "config.norm_epsilon", "subject", Repair(), "epsilon is wrong", "write it", key="epsilon"
    )
    found = _finding(fault, trial, proposal)
    assert found.status == status
    assert found.evidence is not None
    assert found.evidence.ratio_before == (5.0 if differing else before)
    assert found.evidence.ratio_after == after


def test_a_proven_order_of_fused_parts_is_never_taken_for_two_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a sample of the matrices says: the cause names a tensor that no weight is called by."""
    two = SimpleNamespace(of_two_models=True, words="two models")
    monkeypatch.setattr("rosetta.diagnose.engine.likeness", lambda pair: two)
    names = [f"blk.{layer}.attn_qkv.weight" for layer in (0, 1)]
    report = compared(
        tmp_path, "gpt2", "gguf:F16", "apr:F16", [faults.fused_order(name, "vqk") for name in names]
    )
    assert [(f.kind, f.tensor, f.status) for f in report.findings] == [
        ("layout.fused_order", name, "confirmed") for name in names
    ]
