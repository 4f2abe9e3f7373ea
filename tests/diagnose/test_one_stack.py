"""What experts of one stack have in common is one finding of the stack, and one order of several stacks is one too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files
from fixtures.planting import planted

pytestmark = pytest.mark.requires_transformers
GATE, UP, DOWN = (f"blk.1.ffn_{part}_exps.weight" for part in ("gate", "up", "down"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight experts, and four heads of latent attention, each in one tensor."""
    pytest.importorskip("transformers")
    return tiny_pair(tmp_path_factory.mktemp("deepseek2"), "deepseek2-v3")


def clipped(values: Any) -> Any:
    return values.clip(-values.std(), values.std())


def turned(values: Any) -> Any:
    return values.swapaxes(1, 2)


def half_zeroed(values: Any) -> Any:
    values[4:] = 0
    return values


def two_zeroed(values: Any) -> Any:
    values[[2, 5]] = 0
    return values


@pytest.mark.parametrize(
    ("tensor", "change", "kind", "said"),
    [
        (UP, lambda a: a * 0, "value.zeroed", "; so it is in all 8 experts"),
        (UP, lambda a: a * 1.5, "value.scaled", "; so it is in all 8 experts"),
        (GATE, turned, "layout.transposed", "; so it is in all 8 experts"),
        (DOWN, half_zeroed, "value.zeroed", "; so it is in experts 4, 5, 6 and 7 of 8"),
        (DOWN, clipped, "value.clipped", "; so it is in all 8 experts, each by figures of its own"),
        ("blk.1.attn_k_b.weight", lambda a: a * 0, "value.zeroed", "; so it is in all 4 heads"),
    ],
)
def test_what_all_or_many_members_of_a_stack_have_is_one_finding(
    sound: tuple[Path, Path], tmp_path: Path, tensor: str, change: Callable[[Any], Any], kind: str, said: str
) -> None:
    broken = planted(sound[1], tmp_path / "model.gguf", {tensor: change})
    report = compared_files(broken, sound[0])
    [found] = report.findings
    assert (found.kind, found.tensor, found.left_name) == (kind, tensor, tensor)
    assert found.status == "confirmed"
    assert not found.latent
    assert found.message.startswith(tensor)
    assert found.message.endswith(said)


def test_all_that_was_taken_from_the_reference_is_counted(sound: tuple[Path, Path], tmp_path: Path) -> None:
    report = compared_files(planted(sound[1], tmp_path / "model.gguf", {UP: lambda a: a * 0}), sound[0])
    [found] = report.findings
    assert found.evidence is not None
    assert found.evidence.from_reference == "16384 of 16384 weights"


def test_a_stack_under_another_name_is_one_finding(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes(sound[1].read_bytes().replace(UP.encode(), UP.replace("_up_", "_xx_").encode()))
    [found] = compared_files(broken, sound[0]).findings
    assert (found.kind, found.tensor, found.status) == ("value.missing", UP, "confirmed")
    assert f"call {UP.replace('_up_', '_xx_')} {UP} in " in found.recommendation


def test_a_stack_that_is_missing_is_one_finding(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    lost = UP.replace("ffn_up_exps", "other_norm_")  # neither its values nor its name
    broken.write_bytes(sound[1].read_bytes().replace(UP.encode(), lost.encode()))
    broken = planted(broken, tmp_path / "lost.gguf", {lost: lambda a: a * 0})
    [found] = compared_files(broken, sound[0]).findings
    assert (found.kind, found.tensor, found.status) == ("value.missing", UP, "confirmed")
    assert found.evidence is not None
    assert found.evidence.from_reference == "all 16384 weights"


def test_two_members_of_a_larger_stack_are_two_findings(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = planted(sound[1], tmp_path / "model.gguf", {UP: two_zeroed})
    names = [f"blk.1.ffn_up_exps.{expert}.weight" for expert in (2, 5)]
    assert [found.tensor for found in compared_files(broken, sound[0]).findings] == names


def test_one_order_of_all_stacks_of_a_layer_is_one_finding(sound: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {name: lambda a: np.roll(a, 3, 0) for name in (GATE, UP, DOWN)}
    report = compared_files(planted(sound[1], tmp_path / "model.gguf", changes), sound[0])
    assert_proven(report, "layers.1.ffn_gate", Cause("layout.expert_order", GATE))
    assert report.findings[0].message.endswith(f"; so it is in {UP} and {DOWN}")


def test_stacks_in_two_orders_are_two_findings(sound: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {UP: lambda a: np.roll(a, 3, 0), DOWN: lambda a: np.roll(a, 2, 0)}
    report = compared_files(planted(sound[1], tmp_path / "model.gguf", changes), sound[0])
    assert [found.tensor for found in report.findings] == [UP, DOWN]


def test_a_stack_of_another_model_is_named(sound: tuple[Path, Path], tmp_path: Path) -> None:
    def anew(values: Any) -> Any:
        return np.random.default_rng(0).permutation(values.reshape(-1)).reshape(values.shape)

    [found] = compared_files(planted(sound[1], tmp_path / "model.gguf", {UP: anew}), sound[0]).findings
    assert (found.kind, found.tensor) == ("value.other_weights", UP)
