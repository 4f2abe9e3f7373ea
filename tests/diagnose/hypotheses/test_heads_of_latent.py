"""Keys and values of latent attention that lie otherwise in their tensor are one finding, described and proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor, cat

from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files

pytestmark = pytest.mark.requires_transformers
HEADS, ROWS, LATENT = 4, 32, 32  # of keys, and as many of values
STORED = "model.layers.1.self_attn.kv_b_proj.weight"


def by_head(t: Tensor) -> tuple[Tensor, Tensor]:
    heads = t.view(HEADS, 2 * ROWS, LATENT)
    return heads[:, :ROWS], heads[:, ROWS:]


def keys_turned(t: Tensor) -> Tensor:
    keys, values = by_head(t)
    return cat([keys.transpose(1, 2), values], 1)


def both_turned(t: Tensor) -> Tensor:
    return t.view(HEADS, 2, ROWS, LATENT).transpose(2, 3)


def values_first(t: Tensor) -> Tensor:
    return cat(by_head(t)[::-1], 1)


def each_whole(t: Tensor) -> Tensor:
    return cat(by_head(t), 0)


def head_turned(t: Tensor) -> Tensor:
    return t.view(HEADS, 2 * ROWS, LATENT).transpose(1, 2)


def all_turned(t: Tensor) -> Tensor:
    return t.T


WAYS = {
    keys_turned: "layout.transposed",
    both_turned: "layout.transposed",
    head_turned: "layout.transposed",
    all_turned: "layout.transposed",
    values_first: "layout.fused_order",
    each_whole: "layout.fused_order",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("transformers")
    return tiny_pair(tmp_path_factory.mktemp("deepseek2"), "deepseek2-v2")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_way_of_lying_is_one_finding(
    sound: tuple[Path, Path], tmp_path: Path, way: Callable[[Tensor], Tensor]
) -> None:
    broken = tmp_path / "hf"
    broken.mkdir()
    for file in sound[0].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights[STORED] = way(weights[STORED]).reshape(weights[STORED].shape).contiguous()
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    report = compared_files(broken, sound[1])
    assert_proven(report, "layers.1.k", Cause(WAYS[way], "blk.1.attn_kv_b.weight"))


def test_turned_values_of_a_gguf_are_found(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes(sound[1].read_bytes())
    reader = gguf.GGUFReader(broken, "r+")
    values = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.attn_v_b.weight").data
    values[...] = values.swapaxes(1, 2).copy()
    reader.data.flush()
    assert_proven(
        compared_files(broken, sound[0]), "layers.1.v", Cause("layout.transposed", "blk.1.attn_v_b.weight")
    )


def test_other_values_are_no_way_of_lying(sound: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes(sound[1].read_bytes())
    reader = gguf.GGUFReader(broken, "r+")
    values = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.attn_v_b.weight").data
    values[...] = values.reshape(-1)[::-1].reshape(values.shape).copy()
    reader.data.flush()
    report = compared_files(broken, sound[0])
    assert report.findings
    assert not any(found.kind in WAYS.values() for found in report.findings)
