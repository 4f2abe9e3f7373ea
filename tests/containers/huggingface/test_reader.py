"""Hugging Face folders are read as the safetensors library and transformers read them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save, save_file

from rosetta.containers import open_container
from rosetta.containers.container import Container
from rosetta.containers.huggingface.reader import HuggingFaceContainer, not_where_placed
from rosetta.containers.huggingface.settings import huggingface_settings
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError

CONFIG = {"model_type": "llama", "hidden_size": 8}


def folder(tmp_path: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / name).write_bytes(data)
    return tmp_path


def model(tmp_path: Path, weights: bytes) -> Path:
    return folder(tmp_path, {"config.json": CONFIG, "model.safetensors": weights})


def header(table: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str = "F32", shape: Any = (1,), span: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_a_real_folder_is_read_as_the_safetensors_library_reads_it(samples: Path, name: str) -> None:
    path = samples / "models" / name / "hf"
    container = open_container(path)
    assert isinstance(container, Container)
    assert container.architecture == name
    assert container.metadata == json.loads((path / "config.json").read_text())
    with safe_open(path / "model.safetensors", "np") as oracle:
        assert set(container.tensors) == set(oracle.keys())
        for key in oracle.keys():  # noqa: SIM118 (safe_open is no mapping)
            array = oracle.get_tensor(key)
            assert container.tensors[key].dims == array.shape
            assert container.read(key).tobytes() == array.tobytes()


@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda key: key != "__metadata__"),
        st.tuples(
            st.sampled_from(["float32", "float16", "float64", "int8", "int32", "int64", "uint8", "bool"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        max_size=5,
    )
)
def test_whatever_the_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, tuple[str, list[int]]]
) -> None:
    path = tmp_path_factory.mktemp("hf")
    tensors = {key: np.ones(dims, dtype) for key, (dtype, dims) in arrays.items()}
    container = open_container(model(path, save(tensors, {"format": "np"})))
    assert {key: entry.dims for key, entry in container.tensors.items()} == {
        k: t.shape for k, t in tensors.items()
    }
    for key, array in tensors.items():
        assert container.read(key).tobytes() == array.tobytes()
    container.close()


def sharded(tmp_path: Path, **changes: str) -> Path:
    a, b = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    save_file({"x": np.ones(3, np.float32), "y": np.ones(2, np.float16)}, tmp_path / a)
    save_file({"z": np.zeros((2, 2), np.float32)}, tmp_path / b)
    index = {"weight_map": {"x": a, "y": a, "z": b} | changes}
    return folder(tmp_path, {"config.json": CONFIG, "model.safetensors.index.json": index})


def test_a_sharded_folder_is_one_model(tmp_path: Path) -> None:
    container = open_container(sharded(tmp_path))
    assert sorted(container.tensors) == ["x", "y", "z"]
    assert container.read("z").size == 16
    assert container.file_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    container.close()
    with pytest.raises(UsageError, match="closed"):
        container.read("x")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (sharded(tmp_path) / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_container(tmp_path)


def test_a_tensor_that_the_index_alone_knows_is_named(tmp_path: Path) -> None:
    container = open_container(sharded(tmp_path, gone="model-00001-of-00002.safetensors"))
    assert isinstance(container, HuggingFaceContainer)
    assert container.absent == {"gone": "model-00001-of-00002.safetensors"}
    with pytest.raises(DamagedFileError, match=r"'gone'.*model-00001"):
        raise not_where_placed(container, *next(iter(container.absent.items())))


def test_a_shard_without_tensors_is_named(tmp_path: Path) -> None:
    shard = sharded(tmp_path) / "model-00002-of-00002.safetensors"
    save_file({}, shard)
    with pytest.raises(
        DamagedFileError, match=r"model-00002\S+: holds no tensor, .* places 1 in it.*download"
    ):
        open_container(tmp_path)


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    save_file({"x": np.ones(3, np.float32)}, path / "model-00002-of-00002.safetensors")
    with pytest.raises(DamagedFileError, match=r"'x'.*is in model-00001"):
        open_container(path)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "", "..", "a/b.safetensors", "x" * 300, "a\ud800"]
)
def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedFileError, match="no file of the folder"):
        open_container(sharded(tmp_path, x=name))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (b"", "is empty"),
        (b"1234567", "no safetensors header"),
        (header(b"", length=1 << 60), "1,152,921,504,606,846,976 bytes"),
        (header(b"", length=99_999_999), "after the end of the file"),
        (header(b"[]"), "object"),
        (header(b"{}", b"x"), "the file at"),
        (header(b'{"w": 1, "w": 2}'), "'w'.*twice"),
        (header({"w": 3}), "'w'.*not as the format"),
        (header({"w": tensor(shape=(-1,))}, bytes(4)), "'w'.*not as the format"),
        (header({"w": tensor(span=(0, 4, 8))}, bytes(4)), "'w'.*not as the format"),
        (header({"w": tensor(shape=(2,))}, bytes(4)), r"'w'.*\[2\] of F32"),
        (header({"w": tensor(span=(4, 0))}, bytes(4)), "'w'.*data_offsets"),
        (header({"w": tensor(span=(4, 8))}, bytes(8)), "'w'.*begins at byte 4"),
        (header({"w": tensor(), "v": tensor()}, bytes(4)), "begins at byte 0"),
        (header({"w": tensor()}, bytes(3)), "'w'.*after the end"),
        (header({"w": tensor()}, bytes(5)), "the file at"),
        (header({"w": tensor(shape=(1 << 62, 1 << 62))}, bytes(4)), "'w'"),
    ],
)
def test_a_header_that_breaks_a_rule_is_damage(tmp_path: Path, weights: bytes, says: str) -> None:
    with pytest.raises(DamagedFileError, match=says):
        open_container(model(tmp_path, weights))


def test_an_unknown_dtype_is_named_and_a_float8_is_not_refused_yet(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'w'.*F3"):
        open_container(model(tmp_path, header({"w": tensor("F3")}, bytes(4))))
    container = open_container(model(tmp_path, header({"w": tensor("F8_E4M3", (4,))}, bytes(4))))
    assert container.tensors["w"].dtype == "F8_E4M3"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.json": CONFIG, "pytorch_model.bin": b"\x80\x02."}, "pickle"),
        ({"pytorch_model.bin": b"\x80\x02."}, "pickle"),
        ({"config.json": CONFIG}, "no model.safetensors"),
        ({"config.json": CONFIG, "adapter.safetensors": b""}, "adapter.safetensors"),
        ({"config.json": b"{", "model.safetensors": b""}, "JSON"),
        ({"config.json": [1], "model.safetensors": b""}, "object"),
        ({"config.json": CONFIG, "model.safetensors.index.json": {}}, "weight_map"),
        ({"config.json": CONFIG, "model.safetensors.index.json": {"weight_map": {"x": 3}}}, "'x'"),
        ({"model.safetensors": header({})}, "config.json"),
        ({"tokenizer.json": {}}, "no config.json and no weights"),
    ],
)
def test_incomplete_folders_say_what_is_missing(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    with pytest.raises(RosettaError, match=says):
        open_container(folder(tmp_path, files))


def settings(config: dict[str, Any]) -> dict[str, Any]:
    return {key: setting.value for key, setting in huggingface_settings(Path("config.json"), config).items()}


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_settings_are_what_transformers_takes_the_config_for(name: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(name)
    config.save_pretrained(tmp_path)
    found = settings(json.loads((tmp_path / "config.json").read_text()))
    assert found["embedding_length"] == config.hidden_size
    assert found["block_count"] == config.num_hidden_layers
    assert found["attention.head_count"] == config.num_attention_heads
    assert found["vocab_size"] == config.vocab_size
    assert found["context_length"] == config.max_position_embeddings
    assert found["tied_embeddings"] == config.tie_word_embeddings
    if name == "gpt2":
        assert found["attention.layer_norm_epsilon"] == config.layer_norm_epsilon
        assert found["activation"] == config.activation_function
        assert "feed_forward_length" not in found
        return
    assert found["attention.layer_norm_rms_epsilon"] == config.rms_norm_eps
    assert found["attention.head_count_kv"] == config.num_key_value_heads
    assert found["feed_forward_length"] == config.intermediate_size
    assert found["rope.freq_base"] == config.rope_parameters["rope_theta"]
    assert found["activation"] == config.hidden_act


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_theta": 5e5, "rope_scaling": LLAMA3}, {"rope.freq_base": 5e5, "rope.scaling": LLAMA3}),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, {"rope.freq_base": 1e6}),
        ({"rope_scaling": None, "rope_theta": 1e4}, {"rope.freq_base": 1e4}),
        (
            {
                "rope_parameters": {
                    "rope_theta": 5e5,
                    "partial_rotary_factor": 0.5,
                    "type": "linear",
                    "factor": 2,
                }
            },
            {
                "rope.freq_base": 5e5,
                "rope.partial_rotary_factor": 0.5,
                "rope.scaling": {
                    "rope_theta": 5e5,
                    "partial_rotary_factor": 0.5,
                    "type": "linear",
                    "factor": 2,
                },
            },
        ),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
                }
            },
            {"rope.freq_base": 1e6, "rope.freq_base_swa": 1e4},
        ),
        ({"sliding_window": 4096}, {"attention.sliding_window": 4096}),
        ({"sliding_window": 4096, "use_sliding_window": False}, {}),
        (
            {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
            {"attention.sliding_window": 8, "attention.sliding_window_pattern": [True, False]},
        ),
        ({"head_dim": 128}, {"attention.key_length": 128, "attention.value_length": 128}),
        ({"n_inner": None, "n_embd": 768.0}, {"embedding_length": 768}),
        ({"eos_token_id": [1, 2]}, {"eos_token_id": [1, 2]}),
        ({"query_pre_attn_scalar": 64}, {"attention.scale": 0.125}),
        ({"scale_attn_weights": False}, {"attention.scale": 1.0}),
        ({"hidden_size": 1, "text_config": {"hidden_size": 8, "d_model": 9}}, {"embedding_length": 8}),
    ],
)
def test_every_spelling_comes_under_its_gguf_key(config: dict[str, Any], expected: dict[str, Any]) -> None:
    assert settings(config) == expected


def test_a_setting_says_how_the_file_spells_it() -> None:
    found = huggingface_settings(Path("config.json"), {"text_config": {"n_layer": 3}})
    assert found["block_count"].key == "text_config.n_layer"


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": "8"},
        {"hidden_size": 8.5},
        {"num_hidden_layers": -1},
        {"rms_norm_eps": float("nan")},
        {"rms_norm_eps": True},
        {"tie_word_embeddings": 1},
        {"rope_parameters": 3},
        {"query_pre_attn_scalar": 0},
        {"num_attention_heads": [4, "x"]},
        {"layer_types": ["full_attention", {"a": 1}]},
    ],
)
def test_a_value_of_the_wrong_kind_names_its_key(config: dict[str, Any]) -> None:
    with pytest.raises(DamagedFileError, match=next(iter(config))):
        settings(config)


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        ({"model_type": "qwen2", "architectures": ["X"]}, "qwen2"),
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
        ({"architectures": []}, None),
    ],
)
def test_the_architecture_is_what_the_config_says(
    tmp_path: Path, config: dict[str, Any], architecture: str | None
) -> None:
    path = folder(tmp_path, {"config.json": config, "model.safetensors": header({})})
    assert open_container(path).architecture == architecture
