"""Hashes of tensors as their files store them, held to what the formats' own readers give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.numpy import load_file, save
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file

from fixtures import build, packing
from fixtures.adapters import write_adapter
from fixtures.comparing import tiny
from fixtures.faults import transposed
from fixtures.packing import quantised
from fixtures.pairs import pair
from rosetta.compare.options import Options
from rosetta.containers import open_container, open_operand
from rosetta.containers.container import Place, TensorInput
from rosetta.containers.gguf.writer import write_gguf
from rosetta.diagnose.comparison import compare_operands
from rosetta.digests import Digests
from rosetta.report.build import build_report
from rosetta.report.fingerprint import read_sha256, tensors_sha256

LAYERS = 2


def by_safetensors(file: Path) -> dict[str, str]:
    """What the library reads, hashed: a tensor of its own file is all of its data."""
    found = {}
    for name, values in load_file(file).items():
        alone = save({"x": values})
        found[name] = hashlib.sha256(alone[8 + int.from_bytes(alone[:8], "little") :]).hexdigest()
    return found


def test_a_gguf_files_tensors_are_its_blocks(tmp_path: Path) -> None:
    file = build(tmp_path, tiny("qwen2"), "gguf:Q8_0")
    theirs = {t.name: hashlib.sha256(t.data.tobytes()).hexdigest() for t in GGUFReader(file).tensors}
    assert tensors_sha256(open_container(file)) == theirs


def test_an_apr_files_tensors_are_those_of_its_index(tmp_path: Path) -> None:
    file = build(tmp_path, tiny("qwen2"), "apr:F16")
    data, apr = file.read_bytes(), open_container(file)
    found = tensors_sha256(apr)
    assert found is not None
    assert found.keys() == apr.tensors.keys()
    for name in found:  # the machine is little-endian, as the format is
        assert found[name] == hashlib.sha256(apr.read(name).tobytes()).hexdigest()
        assert apr.read(name).tobytes() in data


def test_an_adapters_tensors_stand_with_its_bases(tmp_path: Path) -> None:
    base = build(tmp_path / "base", tiny("llama"), "hf:F32")
    adapter = write_adapter(tmp_path / "adapter", base, LAYERS)
    theirs = by_safetensors(base / "model.safetensors")
    theirs |= by_safetensors(adapter / "adapter_model.safetensors")
    assert tensors_sha256(open_operand(f"peft:{base}+{adapter}")) == theirs


def test_packed_weights_are_hashed_as_they_are_packed(tmp_path: Path) -> None:
    scheme, name = packing.gptq(4, 64, 1, False), "model.layers.0.self_attn.q_proj"
    packed = scheme.pack(torch.randn(128, 128, generator=torch.Generator().manual_seed(0)))
    parts = {f"{name}{ending}": part.contiguous() for ending, part in packed.items()}
    save_file(parts, tmp_path / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": dict(scheme.config)}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert tensors_sha256(open_container(tmp_path)) == by_safetensors(tmp_path / "model.safetensors")


def test_what_was_read_anyway_is_hashed_as_it_is_stored(tmp_path: Path) -> None:
    """Equal bytes, bytes in another order of rows, other dtypes: what both sides share is hashed once."""
    spec = tiny("llama")  # whose rows of q and k GGUF has in another order than folders
    left, right = build(tmp_path / "l", spec, "hf:F16"), build(tmp_path / "r", spec, "gguf:F16")
    found = read_sha256(compare_operands(left, right, Options(prompt="2+2=")).read)
    assert found["left"] == by_safetensors(left / "model.safetensors")
    assert found["right"] == tensors_sha256(open_container(right))
    first = "model.layers.0.self_attn.{}_proj.weight", "blk.0.attn_{}.weight"
    assert found["left"][first[0].format("v")] == found["right"][first[1].format("v")]
    assert found["left"][first[0].format("q")] != found["right"][first[1].format("q")]


def test_of_packed_weights_all_that_they_are_made_of_is_hashed(tmp_path: Path) -> None:
    left, right = build(tmp_path / "l", tiny("qwen2"), "hf:F16"), tmp_path / "packed"
    quantised(left, right, packing.fp8())
    found = read_sha256(compare_operands(left, right, Options(prompt="2+2=")).read)
    stored = load_torch(right / "model.safetensors")
    assert found["right"] == {
        name: hashlib.sha256(values.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, values in stored.items()
    }


def test_what_a_run_did_not_come_to_is_not_hashed(tmp_path: Path) -> None:
    left, right = pair(tmp_path, tiny("qwen2"), fault=transposed("blk.0.attn_q.weight"))
    found = read_sha256(compare_operands(left, right, Options(prompt="2+2=", stop_at_first=True)).read)
    assert found["right"].items() < (tensors_sha256(open_container(right)) or {}).items()
    assert "token_embd.weight" in found["right"]
    assert "blk.1.attn_q.weight" not in found["right"]


def test_bytes_that_lie_in_another_order_are_not_those_of_the_other_side(tmp_path: Path) -> None:
    """A big-endian file holds the same weights, and every byte elsewhere."""
    left, right = build(tmp_path / "l", tiny("qwen2"), "gguf:F16"), tmp_path / "big.gguf"
    little = open_container(left)
    tensors = [TensorInput(name, e.dtype, e.dims, little.read(name)) for name, e in little.tensors.items()]
    write_gguf(right, little.metadata, tensors, big_endian=True)
    found = read_sha256(compare_operands(left, right, Options(prompt="2+2=")).read)
    for side, file in (("left", left), ("right", right)):
        theirs = {t.name: hashlib.sha256(t.data.tobytes()).hexdigest() for t in GGUFReader(file).tensors}
        assert found[side] == theirs


def test_a_comparison_begins_what_its_report_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the files are not so small that all of them is hashed anyway."""
    monkeypatch.setattr("rosetta.digests.SMALL", 0)
    files = pair(tmp_path, tiny("qwen2"), "gguf:F16", "gguf:Q8_0")
    digests, begun, asked_for = Digests(), set[Place](), set[Place]()
    own = digests.of

    def noted(places: Iterable[Place]) -> dict[Place, str]:
        asked_for.update(some := [*places])
        return own(some)

    monkeypatch.setattr(digests, "begin", begun.update)
    monkeypatch.setattr(digests, "of", noted)
    comparison = compare_operands(*files, Options(prompt="2+2="), digests=digests)
    report = build_report(comparison, digests=digests)
    for side, facts in (("left", report.left), ("right", report.right)):
        assert facts.tensors_sha256 == tensors_sha256(comparison.models[side].container)
    assert begun == asked_for
