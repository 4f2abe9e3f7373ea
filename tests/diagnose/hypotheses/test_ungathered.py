"""Weights as one process held them: flat, in part, or empty; said of the file where many are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fixtures import pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.contents import FileContents

SPEC = tiny("llama", tied=False)
UP, DOWN = "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"


def flat(*names: str) -> Any:
    def planted(file: FileContents) -> FileContents:
        for name in names or [name for name, one in file.tensors.items() if len(one.dims) > 1]:
            file = file.with_values(name, file.values(name).reshape(-1))
        return file

    return planted


def part(name: str, axis: int, which: int, count: int, flattened: bool = False) -> Any:
    def planted(file: FileContents) -> FileContents:
        values = np.ascontiguousarray(np.split(file.values(name), count, axis)[which])
        return file.with_values(name, values.reshape(-1) if flattened else values)

    return planted


def test_a_flat_matrix_is_read_with_the_dims_that_the_config_demands(tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "hf:BF16", "gguf:F16", flat(UP))
    assert_proven(
        report, "layers.1.ffn_up", Cause("layout.flattened", UP, actual=[96, 64], declared=[96 * 64])
    )


def test_a_flat_checkpoint_is_one_finding_and_no_model_of_another_size(tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "hf:BF16", "gguf:F16", flat())
    (found,) = report.findings
    assert (found.kind, found.status, found.tensor) == ("layout.flattened", "confirmed", None)
    assert "full state dict" in found.recommendation


@pytest.mark.parametrize(
    ("name", "axis", "which", "count", "flattened", "said"),
    [
        (UP, 0, 0, 2, False, "part 1 of 2: rows 0 to 47 of 96"),
        (UP, 0, 2, 3, True, "part 3 of 3: rows 64 to 95 of 96"),
        (DOWN, 1, 1, 2, False, "part 2 of 2: columns 48 to 95 of 96"),
        ("blk.1.attn_q.weight", 0, 1, 2, False, "part 2 of 2: rows 32 to 63 of 64"),
        ("blk.1.ffn_norm.weight", 0, 1, 4, False, "part 2 of 4: values 16 to 31 of 64"),
    ],
)
def test_a_part_is_named_by_its_place(
    tmp_path: Path, name: str, axis: int, which: int, count: int, flattened: bool, said: str
) -> None:
    report = compared(tmp_path, SPEC, "hf:F32", "gguf:F16", part(name, axis, which, count, flattened))
    found = next(finding for finding in report.findings if finding.tensor == name)
    assert (found.kind, found.status) == ("value.missing", "confirmed")
    assert said in found.message


def test_a_matrix_of_other_values_and_half_the_rows_is_no_part(tmp_path: Path) -> None:
    def other(file: FileContents) -> FileContents:
        draw = np.random.default_rng(3).standard_normal((48, 64), dtype=np.float32)
        return file.with_values(UP, draw * file.values(UP).std())

    report = compared(tmp_path, SPEC, "hf:F32", "gguf:F16", other)
    assert "value.missing" not in {finding.kind for finding in report.findings}


def test_an_empty_layer_is_not_counted_as_left_out(tmp_path: Path) -> None:
    """A config that says how many layers there are is right: their weights were not gathered."""
    left, right = pair(tmp_path, SPEC, "hf:BF16", "gguf:F16")
    weights = load_file(left / "model.safetensors")
    empty = {name: one[:0].flatten() for name, one in weights.items() if ".layers.1." in name}
    save_file({**weights, **empty}, left / "model.safetensors", metadata={"format": "pt"})
    report = compared_files(left, right)
    (found,) = report.findings
    assert (found.kind, found.status, found.tensor) == ("value.missing", "confirmed", None)
    assert "without any values" in found.message
    assert "stage3_gather_16bit_weights_on_model_save" in found.recommendation
