"""A long prompt's attention scores are held a few heads at a time, and the report is that of the whole stage."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fixtures import build, faults, pair
from fixtures.comparing import tiny
from fixtures.faults import Fault
from fixtures.recording import recorded
from rosetta.compare.options import Options
from rosetta.compare.pair import ModelPair
from rosetta.compare.pairing import Pairing
from rosetta.diagnose import compare_operands
from rosetta.diagnose.comparison import Comparison
from rosetta.graph import Node
from rosetta.model import open_model
from rosetta.ops import attention
from rosetta.report.build import build_report
from rosetta.transformer import Transformer

TOKENS = tuple(3 * n % 311 for n in range(1, 46))
SQUARE = len(TOKENS) ** 2
FAULTS: dict[str, Fault | None] = {
    "clean": None,
    "scale": faults.attention_scale(0.2),
    "scale that overflows": faults.attention_scale(3e38),
    "theta": faults.rope_theta(1e4),
    "window": faults.sliding_window(4),
    "q scaled": faults.scaled("blk.0.attn_q.weight", 1.5),
    "heads permuted": faults.head_features_permuted("blk.1.attn_q.weight", 0, seed=3),
    "v missing": faults.dropped("blk.1.attn_v.weight"),
    "k not finite": faults.nonfinite("blk.0.attn_k.weight"),
    "head count": faults.head_count(2),
    "layer dropped": faults.layer_dropped(1),
}
FUSED: dict[str, Fault | None] = {  # GPT-2 has one tensor for q, k and v, and no rope
    "qkv scaled": faults.scaled("blk.0.attn_qkv.weight", 1.5),
    "qkv order": faults.fused_order("blk.1.attn_qkv.weight", "kqv"),
    "qkv not finite": faults.nonfinite("blk.0.attn_qkv.weight"),
}
OF_ANY_MODEL = ("clean", "scale", "scale that overflows", "window", "head count", "layer dropped")
CASES = [
    *((name, what, fault) for name in ("llama", "qwen3") for what, fault in FAULTS.items()),
    *(("gpt2", what, FAULTS[what]) for what in OF_ANY_MODEL),
    *(("gpt2", what, fault) for what, fault in FUSED.items()),
]


def comparison(left: Path | str, right: Path | str, **options: Any) -> Comparison:
    return compare_operands(str(left), str(right), Options(tokens=TOKENS, **options))


def rounded(value: Any, size: float) -> Any:
    """Numbers that may differ by the rounding of scores, which are at most 1; all else as it is."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-4, abs=1e-6 * size, nan_ok=True)
    if isinstance(value, dict):
        return {key: rounded(part, size) for key, part in value.items()}
    return type(value)(rounded(part, size) for part in value)


def assert_same(found: Comparison, expected: Comparison) -> None:
    """Every row, finding and refuted repair, and what `-vv` shows of a stage."""
    a, b = (
        build_report(one).model_dump(mode="json", exclude={"timing", "peak_rss_bytes"})
        for one in (found, expected)
    )
    assert a.keys() == b.keys()
    for name in a.keys() - {"stages"}:
        assert a[name] == rounded(b[name], 1.0), name
    for ours, theirs in zip(found.stages, expected.stages, strict=True):
        size = max(1.0, abs(theirs.worst.left), abs(theirs.worst.right)) if theirs.worst else 1.0
        if (
            ours.scale is None and theirs.scale is not None
        ):  # not computed of one value that is not held whole
            assert ours.op == "attn_scores"
            theirs = theirs.model_copy(update={"scale": None})
        if ours.by_head is None and theirs.by_head is not None:  # likewise, but for a stage at fault
            assert (ours.op, ours.status != "faulty") == ("attn_scores", True)
            theirs = theirs.model_copy(update={"by_head": None})
        assert ours.model_dump(mode="json") == rounded(theirs.model_dump(mode="json"), size), theirs.name
        assert ours.detail.model_dump(mode="json") == rounded(theirs.detail.model_dump(mode="json"), size), (
            theirs.name
        )


@pytest.mark.sample(2)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(
    ("name", "fault"), [(n, f) for n, _, f in CASES], ids=[f"{n} {w}" for n, w, _ in CASES]
)
def test_the_report_is_that_of_the_whole_stage(
    tmp_path: Path, name: str, fault: Fault | None, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pair(tmp_path, tiny(name), "gguf:F16", "gguf:Q8_0", () if fault is None else fault)
    expected = comparison(*files)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", heads * SQUARE)
    assert_same(comparison(*files), expected)


@pytest.mark.parametrize("what", ["clean", "scale", "q scaled"])
def test_the_report_is_that_of_the_whole_stage_when_cores_share_it(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[what]
    files = pair(tmp_path, tiny("qwen3"), "gguf:F16", "gguf:Q8_0", () if fault is None else fault)
    expected = comparison(*files)
    monkeypatch.setattr(attention, "SCORES_OF_A_CORE", 1)
    assert_same(comparison(*files), expected)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 2 * SQUARE)
    assert_same(comparison(*files), expected)


def test_equal_files_still_differ_by_exactly_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1)
    files = pair(tmp_path, tiny("llama"), "apr:F32", "gguf:F32")
    with watched(monkeypatch) as scores:
        found = comparison(*files)
    assert {stage.max_diff for stage in found.stages[1:]} == {0.0}
    assert {stage.local.worst_ratio for stage in found.stages[1:] if stage.local} == {0.0}
    shown = 2 + 1  # the first and the last head, and one value
    assert len(scores.heads) == 2 * (4 + 4 + shown), (
        "once for the stage and once for the next, for both sides"
    )


def test_scores_that_both_sides_compute_alike_are_held_of_more_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much memory holds one tensor of four times as many, and they are computed once."""
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", SQUARE)
    files = pair(tmp_path, tiny("llama"), "apr:F32", "gguf:F32")
    with watched(monkeypatch) as scores:
        found = comparison(*files)
    assert {stage.max_diff for stage in found.stages[1:]} == {0.0}
    assert scores.heads == [4, 4]


# How much of it there is


class Largest(TorchDispatchMode):
    """The most rows as long as the prompt that any operation gives in one tensor."""

    rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, torch.Tensor) and x.dim() > 1 and x.shape[-1] == len(TOKENS):
                self.rows = max(self.rows, x.numel() // len(TOKENS))
        return result


@dataclass
class Scores:
    """The heads that each call of `Transformer.compute` gave scores of, and the most that were alive at once."""

    heads: list[int] = field(default_factory=list)
    most: int = 0


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scores]:
    """The scores that are computed."""
    scores, alive = Scores(), []
    compute = Transformer.compute

    def watching(self: Transformer, node: Node, inputs: Any) -> torch.Tensor:
        result = compute(self, node, inputs)
        if node.stage == "attn_scores":
            scores.heads.append(len(result))
            alive.append(weakref.ref(result))
            scores.most = max(scores.most, sum(len(x) for one in alive if (x := one()) is not None))
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Transformer, "compute", watching)
        yield scores


@pytest.mark.sample(4)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("what", ["clean", "scale", "window", "q scaled"])
def test_no_more_scores_are_held_than_of_the_heads_at_hand(
    tmp_path: Path, what: str, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[what]
    files = pair(tmp_path, tiny("llama"), "gguf:F16", "gguf:Q8_0", () if fault is None else fault)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", heads * SQUARE)
    with Largest() as largest, watched(monkeypatch) as scores:
        comparison(*files)
    assert max(scores.heads) == heads
    assert scores.most <= 3 * heads, "the reference's, and the subject's from both inputs"
    assert heads * len(TOKENS) <= largest.rows < (heads + 1) * len(TOKENS)


def test_few_tokens_are_computed_once_and_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 4 * SQUARE)
    files = pair(tmp_path, tiny("llama"), "gguf:F16", "gguf:Q8_0")
    with watched(monkeypatch) as scores:
        comparison(*files)
    assert scores.heads == [4] * 4, "two layers, each side's own"


# Where heads cannot be told apart


@pytest.mark.parametrize(("kv_heads", "whole"), [(2, False), (4, True)])
def test_sides_with_other_heads_are_compared_whole(
    tmp_path: Path, kv_heads: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1)
    model = open_model(build(tmp_path, tiny("llama"), "gguf:F32"))
    sides = ModelPair(Pairing(Transformer(model), Transformer(model), "right"))
    q, k = torch.randn(8, 4, 16), torch.randn(8, kv_heads, 16)
    sides.reference.values = {"layers.0.q_rope": q, "layers.0.k_rope": torch.randn(8, 2, 16)}
    sides.subject.values = {"layers.0.q_rope": q, "layers.0.k_rope": k}
    stage = "layers.0.attn_scores"
    outcome = sides.run(stage)
    assert outcome.comparable
    assert isinstance(outcome.reference, Tensor) == isinstance(outcome.subject, Tensor) == whole
    sides.advance(stage, outcome)
    repaired = sides.with_models(model, model)
    assert repaired.reference.values == sides.reference.values == {stage: outcome.reference}
    assert repaired.subject.values == {stage: outcome.subject}


def test_a_recorded_run_is_compared_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, broken = pair(
        tmp_path, tiny("llama"), "gguf:F16", "gguf:F16", faults.attention_scale(0.2), side="right"
    )
    trace = f"trace:{recorded(tmp_path / 'run.safetensors', good, tokens=TOKENS)}"
    expected = comparison(broken, trace)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1)
    with watched(monkeypatch) as scores:
        assert_same(comparison(broken, trace), expected)
    assert set(scores.heads) == {4}
