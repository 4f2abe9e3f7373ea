"""Two and three faults at once, on one stage and on several, hiding each other or cancelling out: all are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, build, faults
from fixtures.causes import Cause, assert_causes, assert_proven
from fixtures.comparing import compared, compared_files, faulty, tiny

LLAMA = tiny("llama", ffn=128, tied=False)
QWEN2 = tiny("qwen2", ffn=128, tied=False)
QWEN3 = tiny("qwen3", ffn=128)
LLAMA31 = tiny("llama", ffn=128, rope_scaling=Llama3Scaling())
WIDE = tiny("llama", hidden=256, ffn=512, heads=4, head_dim=64, layers=2, tied=False)
EPSILON, THETA, SCALE = "attention.layer_norm_rms_epsilon", "rope.freq_base", "attention.scale"

Planted = tuple[Any, Cause]


def epsilon(said: float, true: float = 1e-5) -> Planted:
    return faults.norm_epsilon(said), Cause("config.norm_epsilon", EPSILON, declared=said, actual=true)


def theta(said: float, true: float = 1e4) -> Planted:
    return faults.rope_theta(said), Cause("config.rope_theta", THETA, declared=said, actual=true)


def scale(said: float) -> Planted:
    cause = Cause("config.attention_scale", SCALE, declared=said, actual=0.25)
    return faults.attention_scale(said), cause


def turned(tensor: str) -> Planted:
    return faults.transposed(tensor), Cause("layout.transposed", tensor)


def scaled(tensor: str, factor: float) -> Planted:
    return faults.scaled(tensor, factor), Cause("value.scaled", tensor, actual=factor)


def added(tensor: str, amount: float) -> Planted:
    return faults.offset(tensor, amount), Cause("value.offset", tensor, actual=amount)


def exchanged(tensor: str, partner: str) -> Planted:
    return faults.swapped(tensor, partner), Cause("value.swapped", tensor, partner=partner)


def zeroed(tensor: str) -> Planted:
    return faults.zeroed(tensor), Cause("value.zeroed", tensor)


def reordered(tensor: str) -> Planted:
    return faults.rope_order_changed(tensor), Cause("layout.rope_order", tensor)


def mislabeled(tensor: str) -> Planted:
    return faults.bf16_as_f16(tensor), Cause("dtype.mislabeled", tensor, declared="F16", actual="BF16")


CASES: list[tuple[Any, str, str, str, list[Planted]]] = [
    # model, broken operand, the other, first stage, faults
    # … on one stage
    (QWEN2, "apr:F16", "gguf:F16", "layers.0.q",
     [scaled("blk.0.attn_q.weight", 2.0), scaled("blk.0.attn_q.bias", -1.0)]),
    (QWEN2, "gguf:F16", "hf:F16", "layers.1.k", [turned("blk.1.attn_k.weight"), zeroed("blk.1.attn_k.bias")]),
    (QWEN3, "apr:F16", "gguf:F16", "layers.0.q",
     [mislabeled("blk.0.attn_q.weight"), added("blk.0.attn_q_norm.weight", 1.0)]),
    (LLAMA, "apr:F16", "gguf:F16", "layers.0.attn_norm", [epsilon(1e-3), scaled("blk.0.attn_norm.weight", 2.0)]),
    (LLAMA31, "apr:F16", "gguf:F16", "layers.0.q_rope",
     [theta(5e5), (faults.rope_scaling_factor(32.0), Cause("config.rope_scaling", "rope.scaling"))]),
    # … on several stages
    (LLAMA, "gguf:Q8_0", "hf:F16", "layers.0.attn_norm",
     [epsilon(1e-3), reordered("blk.0.attn_k.weight"), exchanged("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight")]),
    (LLAMA, "hf:BF16", "gguf:F16", "layers.0.v",
     [scaled("blk.0.attn_v.weight", -1.0), added("blk.1.ffn_norm.weight", 1.0), zeroed("blk.1.attn_output.weight")]),
    (QWEN2, "apr-gguf:F16", "gguf:F16", "layers.0.q_rope",
     [theta(1e4, 1e6), scale(0.2), mislabeled("blk.1.ffn_down.weight")]),
    (WIDE, "gguf:Q4_K", "hf:F16", "layers.0.q",
     [(faults.nibbles_reordered("blk.0.attn_q.weight"), Cause("dtype.block_order", "blk.0.attn_q.weight")),
      exchanged("blk.0.attn_k.weight", "blk.0.attn_v.weight"),
      (faults.shifted("blk.1.ffn_up.weight", 4), Cause("layout.shifted", "blk.1.ffn_up.weight", actual=4))]),
    (LLAMA, "apr:F16", "gguf:F16", "embedding",
     [scaled("token_embd.weight", 2.0), zeroed("output_norm.weight"), turned("output.weight")]),
]  # fmt: skip


@pytest.mark.sample(10)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " + ".join(cause.kind for _, cause in case[4]))
def test_all_faults_are_found_and_nothing_else(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, stage, planted = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = [fault for fault, _ in planted]
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    causes = [Cause(**{**vars(cause), "side": side}) for _, cause in planted]
    assert_proven(report, stage, *causes)


@pytest.mark.parametrize(
    ("first", "second", "stages"),
    [
        # One order of the features within each head: in v's rows and in the columns that read them.
        (
            faults.head_features_permuted("blk.0.attn_v.weight", 0, 5),
            faults.head_features_permuted("blk.0.attn_output.weight", 1, 5),
            ["layers.0.v", "layers.0.attn_out"],
        ),
        (
            faults.scaled("blk.0.attn_v.weight", 2.0),
            faults.scaled("blk.0.attn_output.weight", 0.5),
            ["layers.0.v", "layers.0.attn_out"],
        ),
        (
            faults.scaled("blk.1.ffn_up.weight", -1.0),
            faults.scaled("blk.1.ffn_down.weight", -1.0),
            ["layers.1.ffn_up", "layers.1.ffn_out"],
        ),
    ],
    ids=["permuted", "scaled", "signs"],
)
def test_two_faults_that_cancel_in_the_output_are_both_found(
    tmp_path: Path, first: Any, second: Any, stages: list[str]
) -> None:
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", [first, second])
    assert report.verdict == "divergent"
    assert faulty(report) == stages
    logits = report.stages[-1]
    assert logits.max_diff is not None
    assert logits.max_diff < 1e-3, "they are meant to cancel"
    assert [(f.evidence.stage, f.status) for f in report.findings if f.evidence] == [
        (stage, "confirmed") for stage in stages
    ]


def test_turned_matrix_in_a_lost_layers_file_is_found_behind_it(tmp_path: Path) -> None:
    spec = tiny("llama", layers=3, tied=False)
    fault = [faults.transposed("blk.0.attn_k.weight"), faults.layer_dropped(2)]
    report = compared(tmp_path, spec, "gguf:F16", "apr:F16", fault)
    assert_proven(
        report,
        "layers.0.k",
        Cause("layout.transposed", "blk.0.attn_k.weight"),
        Cause("config.layer_count", "block_count", actual=3),
    )


def test_faults_of_both_sides_are_each_laid_to_their_file(tmp_path: Path) -> None:
    """The believed file's own contradiction is its own; what the other has otherwise is the other's."""

    left = build(tmp_path, LLAMA, "apr:F16", faults.scaled("blk.0.attn_q.weight", 2.0), stem="left")
    right = build(tmp_path, LLAMA, "gguf:F16", faults.transposed("blk.1.attn_k.weight"), stem="right")
    assert_causes(
        compared_files(left, right),
        Cause("value.scaled", "blk.0.attn_q.weight", "left", actual=2.0),
        Cause("layout.transposed", "blk.1.attn_k.weight", "right"),
    )


def test_stopping_at_the_first_finds_the_first_only(tmp_path: Path) -> None:
    fault = [faults.transposed("blk.0.attn_k.weight"), faults.scaled("blk.1.ffn_up.weight", 2.0)]
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", fault, stop_at_first=True)
    assert_proven(report, "layers.0.k", Cause("layout.transposed", "blk.0.attn_k.weight"))
    assert report.stages[-1].name == "layers.0.k"
