"""A trained model: its massive activations, its importance matrix, its vocabulary. Skipped where there is none."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.bench.speed_pair import unquantised
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_ids, llamacpp_logits
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.containers.container import TensorInput
from rosetta.containers.gguf.writer import write_gguf
from rosetta.convert.convert import convert
from rosetta.model import open_model
from rosetta.tokenizer import load_tokenizer
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.sweep, pytest.mark.requires_llamacpp, pytest.mark.timeout(600)]
FTYPES = {"Q4_0": 2, "Q4_K_M": 15, "Q6_K": 18, "IQ3_XXS": 23, "IQ4_XS": 30}  # llama.h, enum llama_ftype
PROMPT = "def fib(n):\n    return n if n < 2 else fib(n-1) + fib(n-2)\n\nThe capital of France, in 1969, was"
CALIBRATION = (
    "Once upon a time, in a small village by the sea, there lived an old fisherman who told stories. "
)
READ_BY = {
    "attn_norm": ("attn_q", "attn_k", "attn_v"),
    "attn_context": ("attn_output",),
    "ffn_norm": ("ffn_gate", "ffn_up"),
    "ffn_act": ("ffn_down",),
}


@pytest.fixture(scope="module")
def original(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BF16 file that the published one might have been quantised from."""
    container = open_container(smollm2)
    tensors = (
        TensorInput(name, entry.dtype, entry.dims, container.read(name))
        for name, entry in container.tensors.items()
    )
    inputs = (t if t.dtype == "F32" else TensorInput(t.name, "BF16", t.dims, unquantised(t)) for t in tensors)
    metadata = {key: value for key, value in container.metadata.items() if not key.startswith("GGUF.")}
    path = tmp_path_factory.mktemp("trained") / "bf16.gguf"
    write_gguf(path, metadata | {"general.file_type": 32}, inputs)
    return path


@pytest.fixture(scope="module")
def importance(original: Path) -> Mapping[str, Any]:
    """Mean square of each input of each matrix, over a text: what llama.cpp's imatrix tool writes."""
    model = open_model(original)
    tokenizer = load_tokenizer(model.container)
    assert tokenizer is not None
    found = {}
    for name, value in Transformer(model).stages(tokenizer.encode(CALIBRATION * 4)):
        *_, layer, op = ("", *name.split("."))
        for stem in READ_BY.get(op, ()):
            squares = value.float().square().mean(0).flatten()
            found[f"blk.{layer}.{stem}.weight"] = np.ascontiguousarray(squares.numpy(), dtype=np.float32)
    return found


def quantised(source: Path, target: Path, ftype: int, importance: Mapping[str, Any]) -> Path:
    """The file encoded by llama.cpp's quantiser."""
    import llama_cpp

    entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.nthread = ftype, 1
    if importance:
        options.imatrix = entries
    assert (
        llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options)) == 0
    )
    return target


@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("ftype", FTYPES)
def test_quantisation_is_drift(
    tmp_path: Path, original: Path, importance: Mapping[str, Any], ftype: str, weighed: bool
) -> None:
    copy = quantised(
        original, tmp_path / "q.gguf", FTYPES[ftype], importance if weighed or "IQ3" in ftype else {}
    )
    report = compared_files(original, copy, tokens=None, prompt=PROMPT)
    assert (report.verdict, report.findings) == ("drift", [])
    assert max(stage.local.worst_ratio for stage in report.stages if stage.local is not None) < 0.9


@pytest.mark.requires_transformers
def test_what_llamacpp_rounds_is_drift_beside_transformers_too(tmp_path: Path, original: Path) -> None:
    """Beside massive channels, activations in eight bits are off by more than a share of a stage's size tells."""
    copy, folder = quantised(original, tmp_path / "q8.gguf", 7, {}), tmp_path / "hf"
    convert(str(original), folder, Options(), verify=False)
    short = "The capital of France is Paris, and"
    report = compared_files(f"transformers:{folder}", f"llamacpp:{copy}", tokens=None, prompt=short)
    assert report.verdict == "drift"
    assert {finding.kind for finding in report.findings} <= {"runtime.precision"}


def test_fault_beneath_an_importance_matrix_is_found(
    tmp_path: Path, original: Path, importance: Mapping[str, Any]
) -> None:
    container, name = open_container(original), "blk.5.attn_q.weight"
    heads = container.read(name).reshape(9, 32, 2, -1)  # rotary pairs beside each other
    halves = np.ascontiguousarray(heads.transpose(0, 2, 1, 3)).reshape(-1)
    write_gguf(
        tmp_path / "wrong.gguf",
        {key: value for key, value in container.metadata.items() if not key.startswith("GGUF.")},
        (
            TensorInput(key, entry.dtype, entry.dims, halves if key == name else container.read(key))
            for key, entry in container.tensors.items()
        ),
    )
    copy = quantised(tmp_path / "wrong.gguf", tmp_path / "q.gguf", FTYPES["Q4_K_M"], importance)
    report = compared_files(copy, original, tokens=None, prompt=PROMPT)
    assert [(f.kind, f.tensor, f.side, f.status) for f in report.findings] == [
        ("layout.rope_order", name, "left", "confirmed")
    ]


def test_forward_pass_and_tokenizer_are_llamacpps(tmp_path: Path, original: Path) -> None:
    plain = quantised(original, tmp_path / "f32.gguf", 0, {})
    model = open_model(plain)
    tokenizer = load_tokenizer(model.container)
    assert tokenizer is not None
    ids = tokenizer.encode(PROMPT)
    assert ids == llamacpp_ids(plain, PROMPT)
    ours, theirs = Transformer(model)(ids).numpy(), llamacpp_logits(plain, ids)
    assert np.abs(ours - theirs).max() < 1e-3 < 20 < np.abs(theirs).max()
    assert int(torch.from_numpy(ours[-1]).argmax()) == int(theirs[-1].argmax())
