"""Sizes that the config gives and no tensor has: the reference's make the stage computable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults
from fixtures.causes import Cause, assert_causes, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.recording import recorded
from fixtures.spec import ModelSpec

SIZES = [
    # key, said, true, first stage that has a weight of that size
    ("feed_forward_length", 64, 128, "layers.0.ffn_up"),
    ("embedding_length", 32, 64, "embedding"),
    ("embedding_length", 256, 64, "embedding"),
    ("vocab_size", 320, 384, "embedding"),
    ("vocab_size", 1000, 384, "embedding"),
]


def small(name: str) -> ModelSpec:
    return tiny(name, ffn=128, tied=False)


def where(name: str, stage: str) -> str:
    """Where a size first shows: only GPT-2 has no gate."""
    return stage if name == "gpt2" else stage.replace("ffn_up", "ffn_gate")


@pytest.mark.parametrize(("key", "said", "true", "stage"), SIZES)
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("operands", [("gguf:F16", "gguf:F16"), ("apr:F16", "hf:F16")])
def test_size_that_no_tensor_has_is_one_proven_finding(
    tmp_path: Path, name: str, key: str, said: int, true: int, stage: str, operands: Any
) -> None:
    """Equal tensors do not save a config that contradicts them; what a file derives from the size is not accused."""
    if key == "vocab_size" and name != "llama" and operands[0].startswith("gguf"):
        pytest.skip("of these only llama files state it in GGUF")
    report = compared(tmp_path, small(name), *operands, faults.config_set(key, said))
    assert_proven(report, where(name, stage), Cause(f"config.{key}", key, declared=said, actual=true))
    (found,) = report.findings
    assert found.message == f"{key} is {said}, the reference computes with {true}"
    assert found.evidence is not None
    assert found.evidence.before is None, "as stored the stage cannot be computed"
    assert found.evidence.from_reference is None


@pytest.mark.parametrize(("key", "said", "true", "stage"), SIZES[:2])
def test_size_is_accused_on_the_believed_side_that_denies_itself(
    tmp_path: Path, key: str, said: int, true: int, stage: str
) -> None:
    fault = faults.config_set(key, said)
    report = compared(tmp_path, small("llama"), "hf:F16", "gguf:F16", fault, side="right", reference="right")
    cause = Cause(f"config.{key}", key, side="right", declared=said, actual=true)
    assert_proven(report, where("llama", stage), cause)


@pytest.mark.parametrize("without", [(), ("config",)])
@pytest.mark.parametrize(("key", "said", "true", "stage"), SIZES)
def test_size_is_told_from_a_recorded_run(
    tmp_path: Path, key: str, said: int, true: int, stage: str, without: Any
) -> None:
    """Its stages have the size that is right, whether or not the run says with which settings it was computed."""
    run = recorded(
        tmp_path / "run.safetensors", build(tmp_path, small("llama"), "gguf:F16", stem="run"), without=without
    )
    own = build(tmp_path, small("llama"), "apr:F16", faults.config_set(key, said), stem="own")
    report = compared_files(own, f"trace:{run}", tokens=None)
    assert_causes(report, Cause(f"config.{key}", key, declared=said, actual=true))


def test_wrong_size_hides_no_fault_of_the_weights_behind_it(tmp_path: Path) -> None:
    fault = [
        faults.config_set("feed_forward_length", 64),
        faults.scaled("blk.0.ffn_gate.weight", 2.0),
        faults.zeroed("blk.1.ffn_down.weight"),
    ]
    report = compared(tmp_path, small("llama"), "apr:F16", "gguf:F16", fault)
    assert_proven(
        report,
        "layers.0.ffn_gate",
        Cause("config.feed_forward_length", "feed_forward_length", declared=64, actual=128),
        Cause("value.scaled", "blk.0.ffn_gate.weight", actual=2.0),
        Cause("value.zeroed", "blk.1.ffn_down.weight"),
    )


def test_size_is_not_accused_where_dims_are_swapped(tmp_path: Path) -> None:
    """A matrix whose dims deny the config is no witness against it while the config is the reference's."""
    report = compared(
        tmp_path, small("llama"), "apr:F16", "gguf:F16", faults.dims_swapped("blk.0.ffn_up.weight")
    )
    assert_proven(report, "layers.0.ffn_up", Cause("layout.dims_swapped", "blk.0.ffn_up.weight"))
    assert not [tried for tried in report.refuted if tried.key is not None]


def test_two_files_that_agree_with_themselves_are_two_sizes_once(tmp_path: Path) -> None:
    """As a pruned model beside the whole one: nothing is wrong with either."""
    left = build(tmp_path, small("llama"), "hf:F16", stem="left")
    right = build(tmp_path, tiny("llama", ffn=160, tied=False), "gguf:F16", stem="right")
    (found,) = compared_files(left, right).findings
    assert (found.kind, found.key, found.status) == (
        "config.feed_forward_length",
        "feed_forward_length",
        "suspected",
    )
    assert "[128, 64]" in found.message
    assert "[160, 64]" in found.message
    assert "models of two sizes" in found.message
