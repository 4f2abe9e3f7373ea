"""Experts, what a router has of each, and stacked heads in another order: one finding that says which stands where."""

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
ORDER = "layout.expert_order"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight experts with a bias of their choice, and four heads of latent attention in one tensor."""
    pytest.importorskip("transformers")
    return tiny_pair(tmp_path_factory.mktemp("deepseek2"), "deepseek2-v3")


def rolled(values: Any) -> Any:
    return np.roll(values, 3, 0)


def exchanged(values: Any) -> Any:
    return values[[0, 1, 5, 3, 4, 2, 6, 7]]


@pytest.mark.parametrize(
    ("tensor", "change", "kind", "stage"),
    [
        ("blk.1.exp_probs_b.bias", rolled, ORDER, "ffn_router"),
        ("blk.1.exp_probs_b.bias", exchanged, ORDER, "ffn_router"),
        ("blk.1.ffn_gate_inp.weight", rolled, ORDER, "ffn_router"),
        ("blk.1.ffn_up_exps.weight", rolled, ORDER, "ffn_up"),
        ("blk.1.attn_k_b.weight", rolled, "layout.permuted", "k"),
    ],
)
def test_another_order_is_one_finding(
    sound: tuple[Path, Path],
    tmp_path: Path,
    tensor: str,
    change: Callable[[Any], Any],
    kind: str,
    stage: str,
) -> None:
    broken = planted(sound[1], tmp_path / "model.gguf", {tensor: change})
    assert_proven(compared_files(broken, sound[0]), f"layers.1.{stage}", Cause(kind, tensor))


def test_other_numbers_are_no_order(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = planted(sound[1], tmp_path / "model.gguf", {"blk.1.exp_probs_b.bias": lambda b: rolled(b) * 1.5})
    report = compared_files(broken, sound[0])
    assert report.findings
    assert not any(found.kind == ORDER for found in report.findings)


def test_dtype_of_stacked_experts_is_one_finding(sound: tuple[Path, Path], tmp_path: Path) -> None:
    """BF16 bytes that a file calls F16, of all experts of a stack."""
    name = "blk.2.ffn_down_exps.weight"
    halves = rewritten(sound[1], tmp_path / "model.gguf", name)
    cause = Cause("dtype.mislabeled", name, declared="F16", actual="BF16")
    assert_proven(compared_files(halves, sound[0]), "layers.2.ffn_out", cause)


def rewritten(whole: Path, broken: Path, name: str) -> Path:
    """The file with a tensor as BF16 under F16's number."""
    import gguf
    import torch

    reader = gguf.GGUFReader(whole)
    writer = gguf.GGUFWriter(broken, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(
                key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in reader.tensors:
        values = np.array(tensor.data)
        if tensor.name == name:
            values = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.float16)
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return broken
