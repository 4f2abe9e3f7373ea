"""The load log's lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fixtures import build, pair
from fixtures.comparing import tiny
from fixtures.contents import FileContents
from rosetta.compare.listener import ANY, LoadedTensor, loaded_tensors
from rosetta.model import open_model
from rosetta.report.load_log import load_log


def tensor(
    name: str, dims: tuple[int, ...], expected: tuple[int, ...] | None, **changes: object
) -> LoadedTensor:
    return LoadedTensor(name, f"own.{name}", "Q4_K", dims, expected, **changes)  # type: ignore[arg-type]


def test_layers_that_agree_share_a_line() -> None:
    tensors = [tensor(f"blk.{n}.attn_q.weight", (1536, 1536), (1536, 1536)) for n in range(28)]
    assert list(load_log("APR", tensors)) == [
        "[APR-LOAD] blk.{0..27}.attn_q.weight: dims=[1536, 1536], dtype=Q4_K, layout [out, in]: OK"
    ]


def test_kinds_that_are_as_the_config_says_share_a_line_too() -> None:
    names = ("attn_q", "attn_k")
    tensors = [tensor(f"blk.{n}.{name}.weight", (64, 64), (64, 64)) for n in range(28) for name in names]
    assert list(load_log("GGUF", tensors)) == [
        "[GGUF-LOAD] 56 tensors: dims as the config says, dtype=Q4_K, layout [out, in]: OK (-v lists each)"
    ]
    wrong = [*tensors, tensor("blk.3.ffn_up.weight", (64, 128), (128, 64)), tensor("x", (3,), None)]
    lines = list(load_log("GGUF", wrong))
    assert [line.partition(":")[0] for line in lines] == [
        "[GGUF-LOAD] blk.3.ffn_up.weight",
        "[GGUF-LOAD] x",
        "[GGUF-LOAD] 56 other tensors",
    ]


def test_a_tensor_alone_has_a_line_with_its_own_name_when_each_is_wanted() -> None:
    tensors = [tensor(f"blk.{n}.attn_norm.weight", (64,), (64,)) for n in range(2)]
    assert list(load_log("HF", tensors, each=True)) == [
        "[HF-LOAD] blk.0.attn_norm.weight (own.blk.0.attn_norm.weight): dims=[64], dtype=Q4_K: OK",
        "[HF-LOAD] blk.1.attn_norm.weight (own.blk.1.attn_norm.weight): dims=[64], dtype=Q4_K: OK",
    ]


def test_the_layer_that_needs_a_transpose_stands_alone() -> None:
    tensors = [
        tensor(f"blk.{n}.attn_k.weight", (1536, 256) if n == 1 else (256, 1536), (256, 1536))
        for n in range(4)
    ]
    assert list(load_log("APR", tensors)) == [
        "[APR-LOAD] blk.{0,2,3}.attn_k.weight: dims=[256, 1536], dtype=Q4_K, layout [out, in]: OK",
        "[APR-LOAD] blk.1.attn_k.weight: dims=[1536, 256], dtype=Q4_K, "
        "TRANSPOSE NEEDED: expected [out, in] = [256, 1536], stored [1536, 256]",
    ]


def test_dims_that_no_transpose_explains_are_told_apart() -> None:
    (line,) = load_log("GGUF", [tensor("output.weight", (100, 64), (ANY, 32))])
    assert line.endswith("DIMS DIFFER: expected [any, 32], stored [100, 64]")


def test_an_open_dim_fits_any_size() -> None:
    (line,) = load_log("GGUF", [tensor("output.weight", (100, 64), (ANY, 64))])
    assert line.endswith("layout [out, in]: OK")


def test_a_matrix_that_its_file_declares_in_out_is_no_mistake() -> None:
    (line,) = load_log("HF", [tensor("blk.0.ffn_up.weight", (64, 256), (64, 256), in_out=True)])
    assert line.endswith("layout [in, out]: OK")


def test_a_tensor_that_the_architecture_does_not_know_is_not_called_right(tmp_path: Path) -> None:
    """A norm whose name was cut short: the log said OK, and the next line that it is missing."""
    own = "blk.0.ffn_norm.weight"

    def cut_short(file: FileContents) -> FileContents:
        tensor = replace(file.tensor(own), name="blk.0.ffn_nrm.weight")
        return replace(file, tensors={**file.tensors, own: tensor})

    model = open_model(build(tmp_path, tiny("qwen2"), "gguf:F32", cut_short))
    lines = list(load_log(model.container.label, loaded_tensors(model)))
    (said,) = [line for line in lines if "ffn_nrm" in line]
    assert said.endswith("NOT READ, the architecture has no such tensor")
    model.container.close()


def test_every_tensor_of_a_real_model_is_logged_once(tmp_path: Path) -> None:
    for path in pair(tmp_path, "gpt2", "hf:F32", "gguf:F16"):
        model = open_model(path)
        tensors = loaded_tensors(model)
        assert [t.source_name for t in tensors] == list(model.container.tensors)
        lines = list(load_log(model.container.label, tensors))
        assert all(line.endswith((": OK", ": OK (-v lists each)")) for line in lines), lines
        assert len(lines) < len(tensors)
        model.container.close()
