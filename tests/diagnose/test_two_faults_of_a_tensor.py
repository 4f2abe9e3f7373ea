"""Two faults of one tensor: each is named, and what only one of them damaged is all that is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

LLAMA = tiny("llama", ffn=128, tied=False)
UP, GATE, DOWN = "blk.0.ffn_up.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_down.weight"
DAMAGED, NAN, EMPTY = faults.shuffled(UP, 40, 42, 3), faults.nonfinite(UP, 70), faults.zeroed(UP, 3, 7)
WHOLE = [
    # fault of the whole tensor, its kind
    (faults.scaled(UP, 2.0), "value.scaled"),
    (faults.scaled(UP, -1.0), "value.scaled"),
    (faults.transposed(UP), "layout.transposed"),
    (faults.dims_swapped(UP), "layout.dims_swapped"),
    (faults.bf16_as_f16(UP), "dtype.mislabeled"),
]
REGION = [(DAMAGED, "value.corrupted", 256), (NAN, "value.nonfinite", 1), (EMPTY, "value.zeroed", 256)]


@pytest.mark.sample(10)
@pytest.mark.parametrize("operands", [("apr:F32", "gguf:F16"), ("gguf:F16", "hf:F32")])
@pytest.mark.parametrize(("region", "region_kind", "lost"), REGION, ids=lambda value: str(value)[:15])
@pytest.mark.parametrize(("whole", "kind"), WHOLE, ids=lambda value: str(value)[:15])
def test_region_is_found_behind_what_concerns_the_whole_tensor(
    tmp_path: Path, operands: Any, whole: Any, kind: str, region: Any, region_kind: str, lost: int
) -> None:
    first, second = (whole, region) if kind in ("value.scaled", "dtype.mislabeled") else (region, whole)
    if kind == "dtype.mislabeled":
        operands, (first, second) = ("apr:BF16", operands[1]), (region, whole)
    report = compared(tmp_path, LLAMA, *operands, [first, second])
    assert_proven(report, "layers.0.ffn_up", Cause(kind, UP), Cause(region_kind, UP))
    taken = next(found for found in report.findings if found.kind == region_kind).evidence.from_reference
    assert int(taken.split()[0]) <= lost, "more was taken than the damage"


@pytest.mark.parametrize("tensor", [GATE, UP])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [(faults.scaled, "value.scaled"), (faults.zeroed, "value.zeroed"), (faults.nonfinite, "value.nonfinite")],
)
def test_exchange_is_found_though_one_of_the_two_has_another_fault(
    tmp_path: Path, tensor: str, fault: Any, kind: str
) -> None:
    arguments = {"value.scaled": (2.0,), "value.zeroed": (3, 7), "value.nonfinite": (70,)}[kind]
    planted = [fault(tensor, *arguments), faults.swapped(GATE, UP)]
    report = compared(tmp_path, LLAMA, "gguf:F16", "apr:F16", planted)
    swapped = Cause("value.swapped", GATE, partner=UP)
    assert_proven(report, "layers.0.ffn_gate", swapped, Cause(kind, tensor))


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_right_dtype_is_known_though_it_brings_the_values_no_nearer(tmp_path: Path, factor: float) -> None:
    planted = [faults.scaled(DOWN, factor), faults.f16_as_bf16(DOWN)]
    report = compared(tmp_path, LLAMA, "gguf:F16", "hf:F32", planted)
    causes = Cause("dtype.mislabeled", DOWN, actual="F16"), Cause("value.scaled", DOWN, actual=factor)
    assert_proven(report, "layers.0.ffn_out", *causes)
