"""What goes wrong where a matrix is cut into the parts of several ranks and joined again, and whole layers in another
order: described as what it is, not as damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from fixtures.dtypes import encode
from fixtures.faults import Fault
from rosetta.containers.container import TensorInput

Floats = NDArray[np.floating[Any]]
LLAMA = tiny("llama", tied=False)


def changed(name: str, change: Callable[[Floats], Floats]) -> Fault:
    """A matrix with its values put elsewhere."""

    def fault(file: FileContents) -> FileContents:
        values = np.ascontiguousarray(change(file.values(name)))
        return file.with_tensor(name, data=encode(values, file.tensor(name).dtype))

    return fault


def joined_along_rows(values: Floats) -> Floats:
    return np.concatenate(np.split(values, 2, axis=1)).reshape(values.shape)


def second_half_lost(values: Floats) -> Floats:
    return np.concatenate([values[: len(values) // 2]] * 2)


def second_columns_lost(values: Floats) -> Floats:
    return np.concatenate([values[:, : values.shape[1] // 2]] * 2, axis=1)


@pytest.mark.parametrize("operands", [("hf:F32", "gguf:F16"), ("gguf:F16", "hf:BF16")], ids=" ".join)
def test_parts_joined_along_the_wrong_axis_are_put_together(
    tmp_path: Path, operands: tuple[str, str]
) -> None:
    name = "blk.1.ffn_down.weight"
    report = compared(tmp_path, LLAMA, *operands, changed(name, joined_along_rows))
    assert_proven(report, "layers.1.ffn_out", Cause("layout.interleaved", name, "left"))
    assert "along the wrong axis" in report.findings[0].message


@pytest.mark.parametrize(
    ("lose", "things"), [(second_half_lost, "rows 48 to 95"), (second_columns_lost, "columns 32 to 63")]
)
def test_a_part_that_was_taken_twice_is_told_from_damage(tmp_path: Path, lose: Any, things: str) -> None:
    name = "blk.0.ffn_up.weight"
    report = compared(tmp_path, LLAMA, "hf:F32", "gguf:F16", changed(name, lose))
    (found,) = report.findings
    assert (found.kind, found.tensor, found.status) == ("value.repeated", name, "confirmed")
    assert things in found.message
    assert "damaged" not in found.message + found.recommendation


def test_q_k_and_v_of_each_group_side_by_side_are_sorted_out(tmp_path: Path) -> None:
    spec = tiny("llama", heads=4, kv_heads=2)

    def fault(file: FileContents) -> FileContents:
        names = [f"blk.0.attn_{part}.weight" for part in "qkv"]
        parts = [np.split(file.values(name), 2) for name in names]
        whole = np.concatenate([rows for group in zip(*parts, strict=True) for rows in group])
        ends = np.cumsum([len(file.values(name)) for name in names])[:-1]
        for name, values in zip(names, np.split(whole, ends), strict=True):
            data = encode(np.ascontiguousarray(values), file.tensor(name).dtype)
            file = file.with_tensor(name, data=data)
        return file

    report = compared(tmp_path, spec, "hf:F32", "gguf:F16", fault)
    (found,) = report.findings
    assert (found.kind, found.status) == ("layout.fused_order", "confirmed")
    assert all(f"attn_{part}.weight" in found.message for part in "qkv")


def test_layers_sorted_as_text_are_one_finding_and_no_other_model(tmp_path: Path) -> None:
    count = 12
    order = sorted(range(count), key=str)

    def fault(file: FileContents) -> FileContents:
        moved: dict[str, TensorInput] = {}
        for key, tensor in file.tensors.items():
            moved[key] = tensor
            if key.startswith("blk."):
                number, _, rest = key.removeprefix("blk.").partition(".")
                moved[key] = replace(file.tensors[f"blk.{order[int(number)]}.{rest}"], name=tensor.name)
        return replace(file, tensors=moved)

    report = compared(tmp_path, tiny("llama", layers=count), "hf:F32", "gguf:F16", fault)
    (found,) = report.findings
    assert (found.kind, found.status) == ("layout.layer_order", "confirmed")
    assert "as text: 0, 1, 10, 11, 2" in found.message
    assert found.evidence.from_reference is None


@pytest.mark.parametrize("heads", [1, 2])
def test_rotary_rows_reordered_in_blocks_of_several_heads_are_told_by_the_blocks(
    tmp_path: Path, heads: int
) -> None:
    """Rows of q are put back as if the model had fewer heads: its first rows lie as in the other rotary order."""
    name = "blk.1.attn_q.weight"
    spec = tiny("qwen2", heads=4, kv_heads=2)

    def reordered(values: Floats) -> Floats:
        blocks = values.reshape(heads, 2, -1, values.shape[1])
        return blocks.swapaxes(1, 2).reshape(values.shape)

    report = compared(tmp_path, spec, "hf:F32", "gguf:F16", changed(name, reordered))
    assert_proven(report, "layers.1.q", Cause("layout.rope_order", name, "left"))
    (found,) = report.findings
    rows = spec.heads * spec.head_dim // heads
    assert f"in blocks of {rows} rows instead of a head of {spec.head_dim}" in found.message


def test_rows_of_two_tensors_by_turns_are_said_to_be(tmp_path: Path) -> None:
    def fault(file: FileContents) -> FileContents:
        names = [f"blk.0.ffn_{part}.weight" for part in ("gate", "up")]
        turns = np.stack([file.values(name) for name in names], axis=1)
        for name, values in zip(names, np.split(turns.reshape(-1, turns.shape[2]), 2), strict=True):
            file = file.with_values(name, np.ascontiguousarray(values))
        return file

    (found,) = compared(tmp_path, LLAMA, "hf:F32", "gguf:F16", fault).findings
    assert (found.kind, found.status) == ("layout.fused_order", "confirmed")
    assert "its rows are interleaved in 2 parts" in found.message
    assert "one row of 2 from row 1 on" in found.message
