"""A region of a weight that differs by no rule: named with its place, repaired with the other side's values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_causes, assert_proven
from fixtures.comparing import compared, faulty, tiny
from fixtures.contents import FileContents

KIND = "value.corrupted"
SMALL = tiny("qwen2", ffn=128, tied=False)
WIDE = tiny("llama", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)
CASES = [
    # model, broken operand, the other, tensor, damaged rows, stage
    (SMALL, "apr:F16", "gguf:F16", "blk.0.attn_k.weight", (3, 9), "layers.0.k"),
    (SMALL, "gguf:F32", "hf:F16", "blk.1.ffn_up.weight", (0, 100), "layers.1.ffn_up"),
    (SMALL, "gguf:Q8_0", "hf:F16", "blk.1.ffn_down.weight", (60, 64), "layers.1.ffn_out"),
    (SMALL, "hf:BF16", "gguf:F16", "output.weight", (16, 64), "logits"),
    (SMALL, "apr-gguf:Q4_0", "gguf:Q4_0", "blk.0.attn_output.weight", (30, 31), "layers.0.attn_out"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.ffn_gate.weight", (100, 400), "layers.0.ffn_gate"),
    (tiny("gpt2"), "hf:F16", "gguf:F16", "blk.0.ffn_up.weight", (5, 8), "layers.0.ffn_up"),
]


@pytest.mark.sample(7)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join((case[0].architecture, *case[1:4])))
def test_other_values_in_some_rows_are_found_with_their_place(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, rows, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.shuffled(tensor, *rows, seed=7)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side))
    (found,) = report.findings
    assert found.evidence is not None
    taken = re.fullmatch(r"(\d+) of (\d+) weights", found.evidence.from_reference or "")
    assert taken is not None, found.evidence.from_reference
    if spec.architecture != "gpt2":  # whose folder stores rows as columns
        assert f"rows {rows[0]} to {rows[1] - 1}, " in found.message
        width = int(taken[2]) // {"output": 384}.get(tensor.split(".")[0], _rows(spec, tensor))
        assert int(taken[1]) <= (rows[1] - rows[0]) * width


def _rows(spec: Any, tensor: str) -> int:
    sizes = {"attn_k": spec.kv_rows, "ffn_up": spec.ffn, "ffn_gate": spec.ffn}
    return int(sizes.get(tensor.split(".")[-2], spec.hidden))


@pytest.mark.parametrize("seed", [1, 2])
def test_other_weights_of_which_some_blocks_are_near_enough_are_not_damaged(
    tmp_path: Path, seed: int
) -> None:
    """Beneath six bits a fine-tune of a twentieth of the weights is beyond the noise in most blocks, not in all."""

    def fault(file: FileContents) -> FileContents:
        values = file.values("output.weight")
        moved = np.random.default_rng(seed).normal(size=values.shape) * values.std() * 0.05
        return file.with_values("output.weight", (values + moved).astype(np.float32))

    report = compared(tmp_path, WIDE, "hf:F16", "gguf:Q6_K", fault)
    (found,) = report.findings
    assert (found.kind, found.tensor, found.status) == ("value.other_weights", "output.weight", "suspected")
    assert "damaged" not in (found.recommendation or "")


@pytest.mark.parametrize(
    ("spec", "operand", "nbytes"),
    [(SMALL, "apr:F16", 300), (SMALL, "gguf:F32", 2000), (SMALL, "gguf:Q8_0", 400), (WIDE, "gguf:Q4_K", 900)],
    ids=lambda value: getattr(value, "architecture", value),
)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_bytes_are_found(tmp_path: Path, spec: Any, operand: str, nbytes: int, seed: int) -> None:
    """Among them are NaN and absurd values as often as not: one region, one finding."""
    fault = faults.corrupted("blk.0.ffn_up.weight", 1024, nbytes, seed)
    report = compared(tmp_path, spec, operand, "hf:F16", fault)
    assert_proven(report, "layers.0.ffn_up", Cause(KIND, "blk.0.ffn_up.weight"))


@pytest.mark.parametrize(
    ("operand", "other"), [("gguf:Q8_0", "hf:F32"), ("apr:F16", "gguf:F16"), ("gguf:Q4_0", "gguf:Q4_0")]
)
def test_one_block_of_32_weights_is_enough(tmp_path: Path, operand: str, other: str) -> None:
    fault = faults.block_scaled("blk.1.ffn_up.weight", 1.7, block=37)
    report = compared(tmp_path, SMALL, operand, other, fault)
    assert faulty(report) == ["layers.1.ffn_up"]
    row, first = divmod(37 * 32, SMALL.hidden)
    (found,) = report.findings
    assert (found.kind, found.status) == (KIND, "confirmed")
    assert f"rows {row} to {row}, columns {first} to {first + 31}" in found.message


def test_bias_is_named_by_its_values(tmp_path: Path) -> None:
    def fault(file: FileContents) -> FileContents:
        values = file.values("blk.0.attn_q.bias").copy()
        values[32:64] = np.random.default_rng(3).normal(size=32).astype(np.float32)
        return file.with_values("blk.0.attn_q.bias", values)

    report = compared(tmp_path, SMALL, "apr:F16", "gguf:F16", fault)
    assert_causes(report, Cause(KIND, "blk.0.attn_q.bias"))
    assert "values 32 to 63" in report.findings[0].message


def test_a_norm_that_is_all_another_ones_is_not_called_damaged(tmp_path: Path) -> None:
    """A repair that takes all of it from the reference proves nothing."""

    def fresh(file: FileContents) -> FileContents:
        return file.with_values("blk.1.ffn_norm.weight", np.ones(64, np.float32))

    report = compared(tmp_path, tiny("llama", tied=False), "hf:F32", "gguf:F32", fresh)
    assert_causes(report, Cause("value.other_weights", "blk.1.ffn_norm.weight", status="suspected"))


@pytest.mark.parametrize("operand", ["hf:F32", "hf:BF16", "gguf:Q8_0"])
def test_the_same_values_in_another_order_are_no_other_weights(tmp_path: Path, operand: str) -> None:
    def mixed(file: FileContents) -> FileContents:
        values = file.values("blk.1.ffn_up.weight")
        order = np.random.default_rng(5).permutation(values.size)
        return file.with_values("blk.1.ffn_up.weight", values.reshape(-1)[order].reshape(values.shape))

    report = compared(tmp_path, tiny("llama", tied=False), operand, "gguf:F16", mixed)
    assert_causes(report, Cause("layout.reordered", "blk.1.ffn_up.weight", status="suspected"))


def test_another_draw_of_one_distribution_is_other_weights(tmp_path: Path) -> None:
    def drawn(file: FileContents) -> FileContents:
        values = file.values("blk.1.ffn_up.weight")
        draw = np.random.default_rng(5).standard_normal(values.shape, dtype=np.float32)
        return file.with_values("blk.1.ffn_up.weight", draw * values.std() + values.mean())

    report = compared(tmp_path, tiny("llama", tied=False), "hf:F32", "gguf:F16", drawn)
    assert_causes(report, Cause("value.other_weights", "blk.1.ffn_up.weight", status="suspected"))


def test_ranks_joined_along_the_wrong_axis_need_no_transpose(tmp_path: Path) -> None:
    def joined(file: FileContents) -> FileContents:
        values = file.values("blk.1.ffn_up.weight")
        return file.with_values("blk.1.ffn_up.weight", np.concatenate(np.split(values, 3), 1)[:, :])

    report = compared(tmp_path, tiny("llama", ffn=192, tied=False), "hf:F32", "gguf:F16", joined)
    assert {finding.kind for finding in report.findings} == {"layout.reordered"}
