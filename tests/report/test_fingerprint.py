"""Hashes of tensors as their files store them, held to what the formats' own readers give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from gguf import GGUFReader
from safetensors.numpy import load_file, save
from safetensors.torch import save_file

from fixtures import build, packing
from fixtures.adapters import write_adapter
from fixtures.comparing import tiny
from rosetta.containers import open_container, open_operand
from rosetta.report.fingerprint import tensors_sha256

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
