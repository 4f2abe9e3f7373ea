"""Rope scaling lost, invented or of another factor: told by its factors, whichever way a container says them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, faults
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import compared, tiny

KIND, KEY = "config.rope_scaling", "rope.scaling"
SCALED = tiny("llama", ffn=128, rope_scaling=Llama3Scaling())
PAIRS = [
    ("apr:F16", "gguf:F16"),
    ("gguf:Q8_0", "hf:F16"),
    ("hf:F16", "gguf:F16"),
    ("hf-before-5:F16", "apr:F16"),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("broken", "other"), PAIRS)
@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (SCALED, faults.rope_scaling_lost()),
        (SCALED, faults.rope_scaling_factor(32.0)),
        (tiny("llama", ffn=128), faults.rope_scaling_added(4.0)),
    ],
    ids=["lost", "other factor", "invented"],
)
def test_other_scaling_is_found_and_proven(
    tmp_path: Path, spec: Any, fault: Any, broken: str, other: str, side: Any
) -> None:
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, "layers.0.q_rope", Cause(KIND, KEY, side))


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_factors_and_parameters_of_one_scaling_are_no_difference(
    tmp_path: Path, left: str, right: str
) -> None:
    assert_clean(compared(tmp_path, SCALED, left, right))
