"""What each fault makes of the stages: where it is, what carries it, what is skipped, and which side is believed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fixtures import build, faults, pair
from fixtures.comparing import TOKENS, compared, compared_files, faulty, tiny
from fixtures.contents import FileContents
from fixtures.faults import Fault
from rosetta.compare.options import Options
from rosetta.diagnose import compare_operands
from rosetta.report.report import Report
from rosetta.transformer import Transformer
from rosetta.weight import Weight

NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
LAYER_STAGES = (
    "attn_norm", "q", "k", "v", "q_rope", "k_rope", "attn_scores", "attn_context", "attn_out", "attn_residual",
    "ffn_norm", "ffn_gate", "ffn_up", "ffn_act", "ffn_out", "residual",
)  # fmt: skip


def status(report: Report) -> dict[str, str]:
    return {stage.name: stage.status for stage in report.stages}


def stages_of(report: Report) -> dict[str, Any]:
    return {stage.name: stage for stage in report.stages}


# Equal files


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("apr:F32", "gguf:F32"),
        ("hf:F32", "apr-gguf:F32"),
        ("gguf:Q8_0", "gguf:Q8_0"),
        ("hf:BF16", "hf-sharded:BF16"),
    ],
)
def test_equal_files_differ_by_exactly_zero(tmp_path: Path, name: str, left: str, right: str) -> None:
    spec = tiny(name, ffn=256 if name == "gpt2" else 96)
    report = compared(tmp_path, spec, left, right)
    assert (report.verdict, report.reason) == ("match", f"all {report.compared.stages} stages agree")
    for stage in report.stages[1:]:
        assert (stage.status, stage.max_diff, stage.rel_l2, stage.cosine) == ("ok", 0.0, 0.0, 1.0)
        assert stage.local is not None
        assert (stage.local.max_diff, stage.local.predicted_max_diff, stage.local.worst_ratio) == (
            0.0,
            0.0,
            0.0,
        )
    assert report.compared.stages == 3 + 2 * {"gpt2": 13}.get(name, 16)
    assert report.weights.differing == report.weights.within_noise == 0
    assert report.weights.identical_bytes == report.weights.compared
    assert report.logits is not None
    assert (report.logits.kl, report.logits.argmax_match) == (pytest.approx(0.0, abs=1e-12), True)


@pytest.mark.parametrize(("left", "right"), [("apr:F32", "gguf:F32"), ("gguf:Q8_0", "gguf:Q8_0")])
def test_what_is_equal_is_decoded_and_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, right: str
) -> None:
    computed: Counter[tuple[int | None, str]] = Counter()
    decoded: Counter[str] = Counter()
    compute, values = Transformer.compute, Weight.values

    def counting_compute(self: Any, node: Any, inputs: Any) -> torch.Tensor:
        computed[node.name] += 1
        return compute(self, node, inputs)

    def counting_values(self: Any, *rows: Any, **device: Any) -> torch.Tensor:
        decoded[self.name] += 1
        return values(self, *rows, **device)

    monkeypatch.setattr(Transformer, "compute", counting_compute)
    monkeypatch.setattr(Weight, "values", counting_values)
    report = compared(tmp_path, "llama", left, right)
    assert set(computed.values()) == {1}
    assert len(computed) == report.compared.stages
    matrices = {name: count for name, count in decoded.items() if "embd" not in name and "freqs" not in name}
    assert set(matrices.values()) == {1}


def test_difference_begins_where_the_weights_begin_to_differ(tmp_path: Path) -> None:
    fault = faults.scaled("blk.1.ffn_up.weight", 1.5)
    report = compared(tmp_path, "llama", "gguf:F32", "gguf:F32", fault, diagnose=False)
    before = [stage.max_diff for stage in report.stages if stage.name < "layers.1" and stage.layer == 0]
    assert set(before) == {0.0}
    assert faulty(report) == ["layers.1.ffn_up"]


# A status for every case


FAULTS: list[tuple[str, str, Fault, list[str], list[str]]] = [
    # model, what, fault, faulty stages, some carried ones
    ("llama", "scaled", faults.scaled("blk.0.attn_v.weight", 2.0), ["layers.0.v"], ["layers.0.attn_context", "logits"]),
    ("llama", "zeroed", faults.zeroed("blk.0.ffn_down.weight"), ["layers.0.ffn_out"], ["layers.0.residual"]),
    ("llama", "last norm", faults.offset("output_norm.weight", 1.0), ["final_norm"], ["logits"]),
    ("llama", "head", faults.scaled("output.weight", -1.0), ["logits"], []),
    ("llama", "embedding", faults.scaled("token_embd.weight", 1.5), ["embedding"], ["layers.0.q"]),
    ("qwen2", "bias", faults.offset("blk.1.attn_k.bias", 0.5), ["layers.1.k"], ["layers.1.k_rope"]),
    ("qwen3", "head norm", faults.scaled("blk.1.attn_q_norm.weight", 1.5), ["layers.1.q"], ["layers.1.q_rope"]),
    ("gpt2", "positions", faults.scaled("position_embd.weight", 2.0), ["embedding"], ["layers.0.q"]),
    ("gpt2", "norm bias", faults.offset("blk.0.ffn_norm.bias", 0.5), ["layers.0.ffn_norm"], ["layers.0.ffn_up"]),
    ("llama", "rows", faults.rope_order_changed("blk.0.attn_q.weight"), ["layers.0.q"], ["layers.0.q_rope"]),
    ("llama", "missing", faults.dropped("blk.1.attn_q.weight"), ["layers.1.q"], []),
    ("llama", "missing norm", faults.dropped("output_norm.weight"), ["final_norm"], []),
    ("llama", "dims", faults.dims_swapped("blk.0.attn_k.weight"), ["layers.0.k"], []),
    ("llama", "embedding dims", faults.dims_swapped("token_embd.weight"), ["embedding"], []),
    ("llama", "no layer", faults.layer_dropped(1), [], []),
    ("qwen2", "no bias", faults.dropped("blk.0.attn_q.bias"), ["layers.0.q"], ["layers.0.q_rope"]),
    ("qwen3", "no head norm", faults.dropped("blk.0.attn_k_norm.weight"), ["layers.0.k"], ["layers.0.k_rope"]),
    (
        "qwen2", "theta", faults.rope_theta(1e4),
        [f"layers.{n}.{part}_rope" for n in (0, 1) for part in "qk"], ["layers.0.attn_scores"],
    ),
    (
        "gpt2", "epsilon", faults.norm_epsilon(1e-2),
        ["layers.0.attn_norm", "layers.0.ffn_norm", "layers.1.attn_norm", "layers.1.ffn_norm", "final_norm"],
        ["layers.0.q"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", FAULTS, ids=[f"{case[0]} {case[1]}" for case in FAULTS])
@pytest.mark.parametrize("side", ["left", "right"])
def test_fault_is_where_it_is_and_what_follows_is_carried(
    tmp_path: Path, case: Any, side: Literal["left", "right"]
) -> None:
    name, what, fault, expected, carried = case
    if what == "no layer":
        expected = [
            f"layers.1.{op}"
            for op in ("attn_norm", "q", "k", "v", "attn_out", "ffn_norm", "ffn_gate", "ffn_up", "ffn_out")
        ]
    # Left and right change places with their containers, so that the broken file is the same one.
    left, right = ("apr:F16", "gguf:F16") if side == "left" else ("gguf:F16", "apr:F16")
    reference = "right" if side == "left" else "left"
    report = compared(
        tmp_path, tiny(name, tied=False), left, right, fault, side, reference=reference, diagnose=False
    )
    assert faulty(report) == expected
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == expected[0]
    assert {stage: status(report)[stage] for stage in carried} == dict.fromkeys(carried, "carried")
    order = [stage.name for stage in report.stages]
    early = [stage.status for stage in report.stages if order.index(stage.name) < order.index(expected[0])]
    assert set(early) == {"ok"}


@pytest.mark.parametrize("reference", ["left", "right"])
def test_stage_that_one_side_cannot_compute_has_no_numbers_and_the_run_goes_on(
    tmp_path: Path, reference: Literal["left", "right"]
) -> None:
    """Whichever side is believed: the other's value, or the only one there is, goes on for both."""
    fault = faults.dims_swapped("blk.0.attn_k.weight")
    report = compared(tmp_path, "llama", fault=fault, reference=reference, diagnose=False)
    assert faulty(report) == ["layers.0.k"]
    stage = stages_of(report)["layers.0.k"]
    assert (stage.max_diff, stage.local, stage.by_token, stage.worst) == (None, None, None, None)
    assert (stage.left_dims, stage.right_dims) == (None, [len(TOKENS), 2, 16])
    assert "stored as [64, 32], the config says [32, 64]" in stage.detail.not_computable["left"]
    assert status(report)["layers.0.k_rope"] == "ok", "both sides went on from the same value"
    assert status(report)["logits"] == "ok"
    assert (report.verdict, report.compared.stages) == ("divergent", 2 * 16 + 3 - 1)
    (differing,) = report.weights.differing_tensors
    assert (differing.name, differing.note) == ("blk.0.attn_k.weight", "dims differ")
    assert (differing.left_dims, differing.right_dims) == ([64, 32], [32, 64])


@pytest.mark.parametrize(
    ("side", "missing_left", "missing_right"),
    [("left", ["blk.1.attn_q.weight"], []), ("right", [], ["blk.1.attn_q.weight"])],
)
@pytest.mark.parametrize("reference", ["left", "right"])
def test_missing_tensor_is_listed_on_its_side(
    tmp_path: Path, side: Any, missing_left: list[str], missing_right: list[str], reference: Any
) -> None:
    fault = faults.dropped("blk.1.attn_q.weight")
    report = compared(tmp_path, "llama", fault=fault, side=side, reference=reference, diagnose=False)
    assert (report.weights.missing_left, report.weights.missing_right) == (missing_left, missing_right)
    assert faulty(report) == ["layers.1.q"]
    assert "blk.1.attn_q.weight is missing" in stages_of(report)["layers.1.q"].detail.not_computable[side]


# Layers too few or too many


@pytest.mark.parametrize("side", ["left", "right"])
def test_config_that_counts_a_layer_too_few(tmp_path: Path, side: Any) -> None:
    report = compared(tmp_path, "llama", fault=faults.layer_count(1), side=side, diagnose=False)
    missing = [stage for stage in report.stages if stage.layer == 1]
    assert [stage.op for stage in missing] == list(LAYER_STAGES)
    assert {stage.status for stage in missing} == {"faulty"}
    assert all(stage.max_diff is None for stage in missing)
    assert "the file has 1 layers" in missing[0].detail.not_computable[side]
    assert status(report)["final_norm"] == "ok"
    (row,) = [row for row in report.config if row.key == "block_count"]
    assert row.status == "differs"


def test_a_file_of_one_layer_more_is_run_to_its_end(tmp_path: Path) -> None:
    left = build(tmp_path, tiny("llama", layers=3), "gguf:F16", stem="left")
    right = build(tmp_path, tiny("llama"), "apr:F16", stem="right")
    report = compared_files(left, right, diagnose=False)
    assert {stage.status for stage in report.stages if stage.layer == 2} == {"faulty"}
    assert {stage.status for stage in report.stages if stage.layer in (0, 1)} == {"ok"}
    assert [name for name in report.weights.missing_right if not name.startswith("blk.2.")] == []
    assert len(report.weights.missing_right) == 9
    assert report.verdict == "divergent"


# NaN and infinities


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["left", "right"])
def test_nonfinite_values_on_one_side_are_the_fault(tmp_path: Path, side: Any, value: float) -> None:
    fault = faults.nonfinite("blk.0.ffn_up.weight", 70, value)
    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16", fault, side, diagnose=False)
    assert faulty(report) == ["layers.0.ffn_up"]
    stage = stages_of(report)["layers.0.ffn_up"]
    counts = {"left": stage.nonfinite.left, "right": stage.nonfinite.right}
    assert counts == {"left": 0, "right": 0} | {side: len(TOKENS)}
    assert (stage.max_diff, stage.local) == (None, None)
    assert status(report)["layers.0.ffn_act"] == "ok", "both sides went on from the finite value"
    assert report.verdict == "divergent"
    (differing,) = report.weights.differing_tensors
    assert differing.name == "blk.0.ffn_up.weight"


def test_nonfinite_values_on_both_sides_say_nothing_of_either(tmp_path: Path) -> None:
    fault = faults.nonfinite("token_embd.weight", 17 * 64)  # of a token in the prompt
    report = compared(tmp_path, "llama", fault=fault, side="both", diagnose=False)
    assert faulty(report) == []
    assert all(stage.max_diff is None for stage in report.stages[1:])
    assert (report.verdict, report.compared.stages) == ("inconclusive", 0)
    assert report.model_dump_json()


# Drift, thresholds, references


def test_drift_is_what_the_dtypes_explain(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "hf:F32", "gguf:Q8_0")
    assert report.verdict == "drift"
    assert set(status(report).values()) == {"ok", "drift"}
    assert "no more than the dtypes explain" in report.reason
    loose = compared(tmp_path / "loose", "llama", "hf:F32", "gguf:Q8_0", threshold=10.0)
    assert loose.verdict == "match"
    for stage in report.stages[1:]:
        assert stage.max_diff is not None
        assert stage.local is not None
        assert stage.local.worst_ratio < 1


def test_threshold_is_of_the_references_scale_above_one(tmp_path: Path) -> None:
    paths = pair(tmp_path, tiny("llama", weight_std=3.0), "hf:F32", "gguf:Q8_0")
    sizes: dict[str, float] = {}
    for stage in compared_files(*paths).stages[1:]:
        assert stage.rms_diff is not None
        assert stage.max_diff is not None
        assert stage.rel_l2
        sizes[stage.name] = stage.rms_diff / stage.rel_l2  # rms of the reference
    assert max(sizes.values()) > 10 > 1 > min(sizes.values())
    for name in (max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)):
        largest = stages_of(compared_files(*paths))[name].max_diff
        limit = largest / max(1.0, sizes[name])
        assert status(compared_files(*paths, threshold=limit * 0.99))[name] == "drift"
        assert status(compared_files(*paths, threshold=limit * 1.01))[name] == "ok"


def test_a_fault_under_the_threshold_is_faulty_and_no_divergence(tmp_path: Path) -> None:
    """However small: the local error is beyond the noise; and latent, since nothing crosses the threshold."""
    fault = faults.scaled("blk.0.attn_norm.weight", 1.0001)
    report = compared(tmp_path, "llama", "gguf:F32", "gguf:F32", fault, threshold=0.1)
    assert faulty(report) == ["layers.0.attn_norm"]
    assert report.verdict == "match"
    assert report.first_divergence is None
    assert [finding.latent for finding in report.findings] == [True]


def test_reference_decides_the_scale_the_side_and_the_values(tmp_path: Path) -> None:
    paths = pair(tmp_path, tiny("llama"), "apr:F16", "gguf:F16", faults.scaled("blk.0.attn_v.weight", 2.0))
    right = stages_of(compared_files(*paths, reference="right", diagnose=False))["layers.0.v"]
    left = stages_of(compared_files(*paths, reference="left", diagnose=False))["layers.0.v"]
    assert right.rel_l2 == pytest.approx(1.0, rel=1e-3)
    assert left.rel_l2 == pytest.approx(0.5, rel=1e-3)
    assert right.worst is not None
    assert right.worst.left == pytest.approx(2 * right.worst.right, rel=1e-3)
    assert left.worst is not None
    assert left.worst.left == pytest.approx(2 * left.worst.right, rel=1e-3)


def test_stop_at_first_ends_after_the_first_divergent_stage(tmp_path: Path) -> None:
    fault = faults.scaled("blk.0.attn_v.weight", 2.0)
    report = compared(tmp_path, "llama", fault=fault, stop_at_first=True)
    assert report.stages[-1].name == "layers.0.v"
    assert (report.verdict, report.logits) == ("divergent", None)
    assert len(report.findings) == 1
    assert report.weights.compared < 10, "weights of later stages were compared"


def test_stop_at_first_of_a_clean_pair_runs_to_the_end(tmp_path: Path) -> None:
    assert compared(tmp_path, "llama", stop_at_first=True).stages[-1].name == "logits"


# Architectures, vocabularies, heads


def test_stages_that_one_architecture_lacks_are_skipped(tmp_path: Path) -> None:
    left = build(tmp_path, tiny("gpt2", tied=False), "gguf:F16", stem="left")
    right = build(tmp_path, tiny("llama", kv_heads=4, ffn=96), "gguf:F16", stem="right")
    report = compared_files(left, right, diagnose=False)
    skipped = {stage.op for stage in report.stages if stage.status == "skipped"}
    assert skipped == {"q_rope", "k_rope", "ffn_gate"}
    assert all(stage.left_dims is None for stage in report.stages if stage.status == "skipped")
    assert report.verdict == "divergent"
    swapped = compared_files(right, left, diagnose=False)
    assert {stage.op for stage in swapped.stages if stage.status == "skipped"} == skipped


def padded(rows: int) -> Fault:
    """Rows of zeros behind the vocabulary, and a config that counts them."""

    def fault(file: FileContents) -> FileContents:
        for name in ("token_embd.weight", "output.weight"):
            if name in file.tensors:
                values = file.values(name)
                file = file.with_values(name, np.pad(values, ((0, rows), (0, 0))))
        return faults.config_set("vocab_size", file.spec.vocab + rows)(file)

    return fault


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("operand", ["apr:F32", "hf:F32"])
def test_rows_of_padding_behind_the_vocabulary_are_left_out(
    tmp_path: Path, side: Any, tied: bool, operand: str
) -> None:
    spec = tiny("llama", tied=tied, layers=1)
    operands = (operand, "gguf:F32") if side == "left" else ("gguf:F32", operand)
    report = compared(tmp_path, spec, *operands, padded(16), side)
    assert (report.verdict, report.findings) == ("match", [])
    assert {stage.max_diff for stage in report.stages[1:]} == {0.0}
    logits = stages_of(report)["logits"]
    assert logits.left_dims == logits.right_dims == [len(TOKENS), 384]
    assert [note for note in report.notes if "16 rows of padding" in note and f"{side}" in note]
    assert report.weights.missing_left == report.weights.missing_right == []


@pytest.mark.parametrize(("left", "right"), [("apr:F16", "gguf:F16"), ("hf:F16", "apr-gguf:Q8_0")])
def test_weights_are_counted_once_however_they_are_stored(tmp_path: Path, left: str, right: str) -> None:
    report = compared(tmp_path, tiny("qwen2"), left, right)
    counts = report.weights
    assert counts.compared == counts.identical_bytes + counts.within_noise + counts.differing
    assert counts.compared == 2 + 12 * 2 + (left.startswith("apr:") or right.startswith("apr:"))
    assert counts.differing == 0
    assert report.compared.weights == counts.compared


def test_blocks_of_one_tensor_that_differ_are_named(tmp_path: Path) -> None:
    fault = faults.block_scaled("blk.0.ffn_up.weight", 1.25, block=40)
    report = compared(tmp_path, "llama", "gguf:Q8_0", "hf:F32", fault, diagnose=False)
    (differing,) = report.weights.differing_tensors
    assert differing.note.startswith("worst block at row 20, column 0")
    assert "layers.0.ffn_up" in faulty(report)


def test_comparison_of_large_matrices_by_blocks_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = pair(tmp_path, tiny("llama"), "hf:F32", "gguf:Q8_0")
    whole = compared_files(*paths)
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 7 * 64)
    parts = compared_files(*paths)
    assert parts.verdict == whole.verdict
    for ours, theirs in zip(parts.stages[1:], whole.stages[1:], strict=True):
        assert ours.local is not None
        assert theirs.local is not None
        assert ours.local.predicted_max_diff == pytest.approx(theirs.local.predicted_max_diff, rel=1e-4)
        assert ours.max_diff == pytest.approx(theirs.max_diff, rel=1e-3, abs=1e-6)


def test_float64_has_a_lower_floor(tmp_path: Path) -> None:
    paths = pair(
        tmp_path, tiny("llama"), "gguf:F32", "gguf:F32", faults.scaled("blk.0.attn_norm.weight", 1 + 2e-7)
    )
    single = stages_of(compared_files(*paths, dtype="float32", diagnose=False))["layers.0.attn_norm"]
    double = stages_of(compared_files(*paths, dtype="float64", diagnose=False))["layers.0.attn_norm"]
    assert single.local is not None
    assert double.local is not None
    assert double.status == "faulty"
    assert double.local.predicted_max_diff < single.local.predicted_max_diff


def test_logits_summary_is_torchs(tmp_path: Path) -> None:
    paths = pair(tmp_path, tiny("llama"), "hf:F32", "gguf:Q8_0")
    comparison = compare_operands(str(paths[0]), str(paths[1]), Options(tokens=TOKENS))
    left, right = (Transformer(comparison.models[side])(TOKENS) for side in ("left", "right"))
    found = comparison.logits
    assert found is not None
    assert found.nll is not None
    targets = torch.tensor(TOKENS[1:])
    for side, logits in (("left", left), ("right", right)):
        expected = torch.nn.functional.cross_entropy(logits[:-1].double(), targets)
        assert getattr(found.nll, side) == pytest.approx(float(expected), rel=1e-5)
    p, q = right.double().log_softmax(-1), left.double().log_softmax(-1)
    assert found.kl == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    top = right[-1].topk(5)
    assert [entry.id for entry in found.right_top] == top.indices.tolist()
    assert found.margin == pytest.approx(float(top.values[0] - top.values[1]), rel=1e-4)
    assert found.nll.uniform == pytest.approx(float(torch.log(torch.tensor(384.0))), rel=1e-6)
