"""A wrong number of layers, and layers absent as a whole, are one finding; their tensors are accused of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

KIND, KEY, LAYERS = "config.layer_count", "block_count", 3
OPERANDS = [("apr:F16", "gguf:F16"), ("gguf:Q8_0", "hf:F16"), ("hf:F16", "apr:F16")]


def report_of(folder: Path, operands: tuple[str, str], fault: Any, side: Any, name: str = "qwen2") -> Any:
    spec = tiny(name, layers=LAYERS, ffn=128, tied=False)
    sides, reference = (operands, "right") if side == "left" else (operands[::-1], "left")
    return compared(folder, spec, *sides, fault, side, reference=reference)


@pytest.mark.sample(2)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize(
    ("said", "stage"), [(2, "layers.2"), (1, "layers.1"), (4, "layers.3"), (6, "layers.3")]
)
def test_config_that_miscounts_is_found_at_the_first_layer_too_many_or_too_few(
    tmp_path: Path, operands: Any, said: int, stage: str, side: Any
) -> None:
    report = report_of(tmp_path, operands, faults.layer_count(said), side)
    cause = Cause(KIND, KEY, side, declared=said, actual=LAYERS)
    assert_proven(report, f"{stage}.attn_norm", cause)
    assert report.findings[0].evidence.from_reference is None, "all layers are in the file"


@pytest.mark.sample(2)
@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize(("said", "stage"), [(2, "layers.2"), (1, "layers.1"), (4, "layers.3")])
def test_a_believed_file_whose_tensors_belie_its_count_is_at_fault(
    tmp_path: Path, operands: Any, said: int, stage: str
) -> None:
    spec = tiny("qwen2", layers=LAYERS, ffn=128, tied=False)
    report = compared(tmp_path, spec, *operands, faults.layer_count(said), "left", reference="left")
    assert_proven(report, f"{stage}.attn_norm", Cause(KIND, KEY, "left", declared=said, actual=LAYERS))
    assert f"the file holds {LAYERS} layers" in report.findings[0].message


def test_a_believed_file_that_lacks_a_layer_is_taken_at_its_word(tmp_path: Path) -> None:
    """What it declares, it holds: the other file has one layer more."""
    spec = tiny("qwen2", layers=LAYERS, ffn=128, tied=False)
    report = compared(tmp_path, spec, *OPERANDS[0], faults.layer_lost(2), "left", reference="left")
    [finding] = report.findings
    assert (finding.kind, finding.side, finding.actual) == (KIND, "right", LAYERS - 1)


@pytest.mark.sample(2)
@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_absent_layer_that_is_counted_is_taken_from_the_reference(
    tmp_path: Path, operands: Any, layer: int
) -> None:
    report = report_of(tmp_path, operands, faults.layer_dropped(layer), "left")
    assert_proven(report, f"layers.{layer}.attn_norm", Cause(KIND, KEY, actual=LAYERS))
    assert report.findings[0].evidence.from_reference == f"layer {layer}"


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_lost_layer_with_those_behind_it_moved_up_is_found_where_it_was(
    tmp_path: Path, operands: Any, layer: int, name: str
) -> None:
    report = report_of(tmp_path, operands, faults.layer_lost(layer), "left", name)
    assert_proven(report, f"layers.{layer}.attn_norm", Cause(KIND, KEY, declared=LAYERS - 1, actual=LAYERS))
    assert report.findings[0].evidence.from_reference == f"layer {layer}"


def test_two_lost_layers_are_one_finding(tmp_path: Path) -> None:
    def both(file: Any) -> Any:
        return faults.layer_dropped(1)(faults.layer_dropped(2)(file))

    report = report_of(tmp_path, OPERANDS[0], both, "left")
    assert_proven(report, "layers.1.attn_norm", Cause(KIND, KEY, actual=LAYERS))
    assert report.findings[0].evidence.from_reference == "layers 1, 2"


def test_layers_exchanged_are_no_lost_layer(tmp_path: Path) -> None:
    report = report_of(tmp_path, OPERANDS[0], faults.layers_swapped(0, 2), "left")
    assert {found.kind for found in report.findings} == {"value.swapped"}
