"""Models in other containers: what was written is run by llama.cpp and loaded by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as torch_file
from safetensors.torch import save_file as save_torch

from fixtures import Llama3Scaling, build, faults, model_spec, packing
from fixtures.architectures import RECIPES
from fixtures.comparing import tiny
from fixtures.oracles import llamacpp_logits, transformers_logits
from fixtures.recipes import build_folder
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.convert import Conversion, convert
from rosetta.errors import RosettaError, UsageError

IDS = [17, 10, 17, 28, 99, 3, 200, 41]
SPECS: list[tuple[str, Any]] = [
    ("llama", model_spec("llama")),
    ("llama 3.1", model_spec("llama", rope_scaling=Llama3Scaling())),
    ("qwen2 tied", model_spec("qwen2", tied=True)),
    ("gpt2", model_spec("gpt2")),
]
NAMES = [name for name, _ in SPECS]


def run(source: Path, target: Path, **more: Any) -> Conversion:
    """A conversion whose comparison passes."""
    done = convert(str(source), target, Options(diagnose=False), **more)
    assert done.comparison is not None
    assert done.comparison.verdict in ("match", "drift"), done.comparison.reason
    assert not done.done.lost
    return done


def tensors_of(path: Path) -> dict[str, bytes]:
    """Every tensor of a GGUF file, by gguf-py: its dtype, dims and bytes."""
    return {
        tensor.name: f"{tensor.tensor_type.name} {tensor.shape.tolist()}".encode() + tensor.data.tobytes()
        for tensor in gguf.GGUFReader(path).tensors
    }


def file_tensors(path: Path) -> dict[str, bytes]:
    """Every tensor of a safetensors file, by its header: dtype, dims and bytes."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    return {
        name: f"{entry['dtype']} {entry['shape']}".encode()
        + raw[8 + size + entry["data_offsets"][0] : 8 + size + entry["data_offsets"][1]]
        for name, entry in header.items()
        if name != "__metadata__"
    }


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("spec", [spec for _, spec in SPECS], ids=NAMES)
def test_llamacpp_runs_a_converted_folder_as_the_file_made_for_it(tmp_path: Path, spec: Any) -> None:
    pytest.importorskip("llama_cpp")
    folder = build(tmp_path / "a", spec, "hf:F32")
    run(folder, tmp_path / "out.gguf")
    made = build(tmp_path / "b", spec, "gguf:F32")
    np.testing.assert_array_equal(llamacpp_logits(tmp_path / "out.gguf", IDS), llamacpp_logits(made, IDS))
    assert tensors_of(tmp_path / "out.gguf") == tensors_of(made)


@pytest.mark.requires_transformers
@pytest.mark.parametrize("spec", [spec for _, spec in SPECS], ids=NAMES)
def test_transformers_loads_a_folder_made_of_a_gguf_file(tmp_path: Path, spec: Any) -> None:
    pytest.importorskip("transformers")
    folder = build(tmp_path / "a", spec, "hf:F32")
    made = build(tmp_path / "b", spec, "gguf:F32")
    run(made, tmp_path / "out")
    got, want = transformers_logits(tmp_path / "out", IDS), transformers_logits(folder, IDS)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    ours, theirs = load_file(tmp_path / "out" / "model.safetensors"), load_file(folder / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["F16", "Q4_K", "Q8_0"])
def test_quantised_and_half_bytes_pass_through_an_apr_and_back(tmp_path: Path, dtype: str) -> None:
    spec = model_spec("qwen2")
    source = build(tmp_path / "a", spec, f"gguf:{dtype}")
    done = run(source, tmp_path / "out.apr")
    assert done.done.encoded == 0
    run(tmp_path / "out.apr", tmp_path / "back.gguf")
    assert tensors_of(tmp_path / "back.gguf") == tensors_of(source)


@pytest.mark.parametrize("between", ["out.gguf", "out.apr"])
@pytest.mark.parametrize("spec", [spec for _, spec in SPECS], ids=NAMES)
def test_a_folder_comes_back_byte_by_byte(tmp_path: Path, spec: Any, between: str) -> None:
    source = build(tmp_path / "a", spec, "hf:F32")
    run(source, tmp_path / between)
    run(tmp_path / between, tmp_path / "back")
    assert file_tensors(tmp_path / "back" / "model.safetensors") == file_tensors(source / "model.safetensors")


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["llama-bias", "gemma2", "mamba2", "apertus"])
def test_what_gguf_keeps_in_float32_comes_back_in_the_dtype_of_the_matrices(
    tmp_path: Path, name: str
) -> None:
    """Also where it is kept in another form: 1 + w, A of A_log, a number as a key."""
    folder, weights = build_folder(tmp_path / "hf", RECIPES[name]), "model.safetensors"
    convert(str(folder), tmp_path / "half", Options(), dtype="BF16", verify=False)
    halves = {tensor: t.bfloat16() for tensor, t in torch_file(tmp_path / "half" / weights).items()}
    save_torch(halves, tmp_path / "half" / weights, {"format": "pt"})
    convert(str(tmp_path / "half"), tmp_path / "out.gguf", Options(), verify=False)
    convert(str(tmp_path / "out.gguf"), tmp_path / "back", Options(), verify=False)
    assert file_tensors(tmp_path / "back" / weights) == file_tensors(tmp_path / "half" / weights)


@pytest.mark.requires_transformers
def test_values_that_the_form_rounds_are_told(tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES["gemma2"])
    rounds = [note for note in run(folder, tmp_path / "out.gguf").done.notes if "rounds" in note]
    assert rounds == [
        "the form in which GGUF has the values rounds 17 tensors (blk.{0..3}.attn_norm.weight, "
        "blk.{0..3}.post_attention_norm.weight, blk.{0..3}.post_ffw_norm.weight, blk.{0..3}.ffn_norm.weight, "
        "output_norm.weight): converted back, they differ from the source by that"
    ]
    assert not run(tmp_path / "out.gguf", tmp_path / "back").done.notes


@pytest.mark.requires_transformers
def test_a_matrix_that_is_stored_turned_is_encoded_along_its_stored_rows(tmp_path: Path) -> None:
    """DeepSeek's keys of the latent: GGUF holds them turned, a folder in one matrix with the values."""
    folder = build_folder(tmp_path / "hf", RECIPES["deepseek2-v2"])
    for dtype in ("F32", "Q8_0"):
        convert(str(folder), tmp_path / f"{dtype}.gguf", Options(), dtype=dtype, verify=False)
    plain, packed = (
        {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / f"{dtype}.gguf").tensors}
        for dtype in ("F32", "Q8_0")
    )
    turned = packed["blk.0.attn_k_b.weight"]
    assert turned.tensor_type == gguf.GGMLQuantizationType.Q8_0
    wanted = gguf.quantize(plain[turned.name].data, gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(turned.data.reshape(-1), wanted.reshape(-1))


@pytest.mark.parametrize("dtype", [None, "Q8_0"])
def test_matrices_that_a_folder_stores_in_out_lie_out_in_in_an_apr(tmp_path: Path, dtype: str | None) -> None:
    source = build(tmp_path / "a", model_spec("gpt2"), "hf:F32")
    run(source, tmp_path / "straight.gguf", dtype=dtype)
    run(source, tmp_path / "out.apr", dtype=dtype)
    run(tmp_path / "out.apr", tmp_path / "over.gguf")
    assert tensors_of(tmp_path / "over.gguf") == tensors_of(tmp_path / "straight.gguf")


def test_asked_for_a_dtype_matrices_are_encoded_as_gguf_py_does_and_vectors_stay(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("qwen2"), "hf:F32")
    run(source, tmp_path / "out.gguf", dtype="Q8_0")
    run(source, tmp_path / "plain.gguf")
    plain = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "plain.gguf").tensors}
    for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors:
        if len(tensor.shape) > 1:
            assert tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0, tensor.name
            wanted = gguf.quantize(plain[tensor.name].data, gguf.GGMLQuantizationType.Q8_0)
            np.testing.assert_array_equal(np.asarray(tensor.data).reshape(-1), wanted.reshape(-1))
        else:
            assert tensor.tensor_type == gguf.GGMLQuantizationType.F32, tensor.name
            np.testing.assert_array_equal(tensor.data, plain[tensor.name].data)
    assert gguf.GGUFReader(tmp_path / "out.gguf").fields["general.file_type"].contents() == 7


WIDE = tiny("llama", hidden=256, head_dim=64, ffn=512, layers=1)


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize(("dtype", "file_type"), [("Q4_K", 15), ("Q6_K", 18), ("IQ4_XS", 30)])
def test_what_gguf_py_does_not_encode_is_encoded_by_ggml(tmp_path: Path, dtype: str, file_type: int) -> None:
    from fixtures import ggml

    source = build(tmp_path / "a", WIDE, "hf:F32")
    run(source, tmp_path / "out.gguf", dtype=dtype)
    run(source, tmp_path / "plain.gguf")
    plain = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "plain.gguf").tensors}
    for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors:
        if len(tensor.shape) > 1:
            assert tensor.tensor_type.name == dtype, tensor.name
            wanted = ggml.quantize(plain[tensor.name].data, dtype)
            np.testing.assert_array_equal(np.asarray(tensor.data).reshape(-1), wanted.reshape(-1))
    assert gguf.GGUFReader(tmp_path / "out.gguf").fields["general.file_type"].contents() == file_type
    assert np.isfinite(llamacpp_logits(tmp_path / "out.gguf", IDS)).all()


@pytest.mark.requires_llamacpp
def test_rows_that_are_no_whole_blocks_fall_back_as_in_llamacpp(tmp_path: Path) -> None:
    source = build(tmp_path / "a", tiny("llama", hidden=96, head_dim=24, ffn=256, layers=1), "hf:F32")
    done = run(source, tmp_path / "out.gguf", dtype="Q4_K")
    types = {
        tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors
    }
    assert types["blk.0.attn_q.weight"] == "Q5_0"
    assert types["blk.0.ffn_down.weight"] == "Q4_K"
    assert any("as Q5_0: rows are no whole blocks of Q4_K" in note for note in done.done.notes)


@pytest.mark.requires_llamacpp
def test_a_search_for_scales_is_given_no_value_that_is_no_number(tmp_path: Path) -> None:
    source = build(tmp_path / "a", WIDE, "hf:F32", faults.nonfinite("blk.0.ffn_up.weight", 3, "nan"))
    with pytest.raises(RosettaError, match=r"up_proj.weight'.*has NaN or Inf, which Q4_K cannot hold"):
        convert(str(source), tmp_path / "out.gguf", Options(), dtype="Q4_K")
    assert not (tmp_path / "out.gguf").exists()


def test_without_ggml_it_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta.blocks.ggml._library", lambda: None)
    source = build(tmp_path / "a", WIDE, "hf:F32")
    with pytest.raises(UsageError, match="nothing here encodes 'Q4_K'") as caught:
        convert(str(source), tmp_path / "out.gguf", Options(), dtype="Q4_K")
    assert caught.value.remedy is not None
    assert "pip install 'rosetta-trace[llamacpp]'" in caught.value.remedy


@pytest.mark.parametrize("scheme", ["gptq", "fp8 blocks"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_folder_of_packed_weights_is_written_plain_where_a_dtype_is_asked_for_and_says_so(
    tmp_path: Path, scheme: str, dtype: str
) -> None:
    plain = build(tmp_path / "a", tiny("llama", hidden=128, ffn=192, tied=False), "hf:BF16")
    source = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[scheme])
    run(source, tmp_path / "out", dtype=dtype)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    stored = {"F32": "float32", "BF16": "bfloat16"}[dtype]
    assert config["dtype"] == stored
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert str(file.get_tensor("model.layers.0.mlp.up_proj.weight").dtype) == f"torch.{stored}"
    run(source, tmp_path / "out.apr")
    assert "quantization_config" not in open_container(tmp_path / "out.apr").metadata


@pytest.mark.parametrize("scheme", ["gptq by activation", "awq", "fp8 rows", "bnb nf4 nested", "mlx 4 bits"])
def test_packed_weights_stay_packed_in_another_folder(tmp_path: Path, scheme: str) -> None:
    plain = build(tmp_path / "a", tiny("llama", hidden=128, ffn=192, tied=False), "hf:BF16")
    source = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES[scheme])
    done = run(source, tmp_path / "out", split_bytes=60_000)
    assert done.done.encoded == 0
    held: dict[str, bytes] = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        held |= file_tensors(file)
    assert held == file_tensors(source / "model.safetensors")
    assert (tmp_path / "out" / "config.json").read_bytes() == (source / "config.json").read_bytes()


def test_mxfp4_of_a_folder_becomes_the_blocks_of_ggml_that_hold_the_same_codes(tmp_path: Path) -> None:
    plain = build(tmp_path / "a", tiny("llama", hidden=128, ffn=192, tied=False), "hf:BF16")
    source = packing.quantised(plain, tmp_path / "quantised", packing.SCHEMES["ct mxfp4"])
    assert run(source, tmp_path / "out.gguf").done.encoded == 5  # norms, which are F32 there
    with safe_open(source / "model.safetensors", "pt") as file:
        stem = "model.layers.1.mlp.down_proj.weight"
        codes = file.get_tensor(f"{stem}_packed").numpy().reshape(-1, 16)
        exponents = file.get_tensor(f"{stem}_scale").numpy().reshape(-1)
    written = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    tensor = written["blk.1.ffn_down.weight"]
    assert tensor.tensor_type == gguf.GGMLQuantizationType.MXFP4
    blocks = tensor.data.reshape(-1, 17)
    np.testing.assert_array_equal(blocks[:, 0], exponents)
    np.testing.assert_array_equal(blocks[:, 1] & 15, codes[:, 0] & 15)
    np.testing.assert_array_equal(blocks[:, 1] >> 4, codes[:, 8] & 15)
    np.testing.assert_array_equal(blocks[:, 2] & 15, codes[:, 0] >> 4)


def test_shards_hold_all_tensors_and_each_at_most_as_many_bytes(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("qwen2"), "hf:F32")
    run(source, tmp_path / "whole.gguf")
    done = run(source, tmp_path / "out.gguf", split_bytes=400_000)
    assert len(done.done.files) > 1
    held: dict[str, bytes] = {}
    for file in done.done.files:
        data = sum(tensor.n_bytes for tensor in gguf.GGUFReader(file).tensors)
        assert data <= 400_000 or len(gguf.GGUFReader(file).tensors) == 1
        held |= tensors_of(file)
    assert held == tensors_of(tmp_path / "whole.gguf")
    again = run(done.done.files[0], tmp_path / "joined.gguf")
    assert again.done.files == (tmp_path / "joined.gguf",)
    assert tensors_of(tmp_path / "joined.gguf") == held


def test_a_split_folder_has_an_index_that_transformers_reads(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("llama"), "gguf:F32")
    run(source, tmp_path / "out", split_bytes=400_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    stored = {
        name: file.name for file in (tmp_path / "out").glob("*.safetensors") for name in load_file(file)
    }
    assert index["weight_map"] == stored
    assert len(set(stored.values())) > 1


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("qwen2"), "hf:F16")
    target = tmp_path / "out.gguf"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        convert(str(source), target, Options())
    assert target.read_bytes() == b"mine"
    run(source, target, force=True)
    assert target.read_bytes()[:4] == b"GGUF"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("qwen2"), "hf:F16")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1 << 40}))
    with pytest.raises(RosettaError):
        convert(str(source), tmp_path / "out.gguf", Options())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_the_source_is_never_the_target(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("qwen2"), "gguf:F16")
    with pytest.raises(UsageError, match="is the source"):
        convert(str(source), source, Options(), force=True)


def test_a_dtype_that_nothing_encodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="IQ1_S"):
        convert(str(tmp_path), tmp_path / "out.gguf", Options(), dtype="IQ1_S")


def test_rows_without_a_token_are_padding_each_of_its_own_name(tmp_path: Path) -> None:
    source = build(tmp_path / "a", model_spec("qwen2"), "hf:F16")
    table = json.loads((source / "tokenizer.json").read_text())
    longest = max(table["model"]["vocab"].values())
    dropped = [token for token, id in table["model"]["vocab"].items() if id > longest - 3]
    table["model"]["vocab"] = {t: i for t, i in table["model"]["vocab"].items() if t not in dropped}
    table["model"]["merges"] = [
        m for m in table["model"]["merges"] if "".join(m).replace(" ", "") not in dropped
    ]
    table["added_tokens"] = [a for a in table["added_tokens"] if a["id"] <= longest - 3]
    (source / "tokenizer.json").write_text(json.dumps(table))
    convert(str(source), tmp_path / "out.gguf", Options(diagnose=False), verify=False)
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == len(set(tokens)) == fields["qwen2.vocab_size"].contents()
    assert "[PAD" in tokens[-1] or "[PAD" in tokens[longest]
