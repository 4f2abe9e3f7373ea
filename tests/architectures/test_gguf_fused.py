"""A GGUF file with q, k and v in one tensor where writers have three: llama.cpp runs it, and so is it read."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits

pytestmark = [pytest.mark.sweep, pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [17, 10, 17, 28, 300, 5, 63, 299]
NAMES = ["llama", "qwen2", "gemma2", "kimi-linear", "qwen3next", "qwen35"]


def with_one_tensor(source: Path, target: Path) -> Path:
    """A copy in which q, k and v of each layer that has all three are one."""
    read = gguf.GGUFReader(source)
    architecture = read.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in read.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            inner = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    stored = {tensor.name: np.array(tensor.data) for tensor in read.tensors}
    for name in list(stored):
        parts = [name.replace("attn_q.", f"attn_{part}.") for part in "qkv"]
        if ".attn_q." in name and all(part in stored for part in parts):
            whole = np.concatenate([stored.pop(part) for part in parts])
            stored[name.replace("attn_q.", "attn_qkv.")] = whole
    for name, values in stored.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize("name", NAMES)
def test_one_tensor_is_three(tmp_path: Path, name: str) -> None:
    _, plain = tiny_pair(tmp_path, name)
    fused = with_one_tensor(plain, tmp_path / "fused.gguf")
    assert any(".attn_qkv." in tensor.name for tensor in gguf.GGUFReader(fused).tensors)
    assert np.array_equal(llamacpp_logits(fused, IDS), llamacpp_logits(plain, IDS))
    report = compared_files(fused, plain, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])
