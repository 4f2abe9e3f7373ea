"""`.apr` files of every writer are read, what is odd about them noted, and other dialects refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.raw_apr import RawTensor, raw_apr
from rosetta.containers import open_container
from rosetta.containers.apr.reader import AprContainer
from rosetta.containers.apr.reader import open as open_apr
from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError

ONE = RawTensor("w", 0, (2, 3), np.arange(6, dtype=np.float32).tobytes())


def opened(tmp_path: Path, data: bytes) -> AprContainer:
    path = tmp_path / "model.apr"
    path.write_bytes(data)
    return open_apr(path)


def settings(tmp_path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: setting.value for key, setting in opened(tmp_path, raw_apr(metadata)).settings.items()}


@pytest.mark.parametrize("magic", [b"APR\0", b"APR2", b"APRN"])
def test_the_three_magics_of_v2_are_read(tmp_path: Path, magic: bytes) -> None:
    container = opened(tmp_path, raw_apr({"architecture": "llama"}, [ONE], magic=magic))
    assert isinstance(container, Container)
    assert container.architecture == "llama"
    assert container.read("w").view(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
    assert bool(container.notes) == (magic != b"APR\0")


def test_a_part_of_a_tensor_is_a_fresh_writable_array(tmp_path: Path) -> None:
    container = opened(tmp_path, raw_apr({}, [ONE]))
    part = container.read("w", 4, 8)
    part[:] = 0
    assert container.read("w", 4, 8).view(np.float32).tolist() == [1, 2]
    with pytest.raises(ValueError, match="which has 24"):
        container.read("w", 20, 8)


def test_a_closed_file_says_so(tmp_path: Path) -> None:
    container = opened(tmp_path, raw_apr({}, [ONE]))
    container.close()
    with pytest.raises(UsageError, match="closed"):
        container.read("w")


def test_a_file_cut_short_after_opening_is_said(tmp_path: Path) -> None:
    container = opened(tmp_path, raw_apr({}, [ONE]))
    container.path.write_bytes(container.path.read_bytes()[:200])
    with pytest.raises(DamagedFileError, match="when it was opened"):
        container.read("w")


@pytest.mark.parametrize(
    ("odd", "note"),
    [
        ({"checksum": 0}, "no checksum"),
        ({"checksum": 7}, "its bytes give"),
        ({"footer": False}, "at its end"),
        ({"align": 1}, "aligned"),
        ({"flags": 0x0401}, "LZ4"),
        ({"flags": 0x0402}, "ZSTD"),
        ({"flags": 0x0C00}, "COLUMN_MAJOR"),
    ],
)
def test_irregularities_are_tolerated_and_noted(tmp_path: Path, odd: dict[str, Any], note: str) -> None:
    container = opened(tmp_path, raw_apr({}, [ONE, RawTensor("v", 0, (1,), bytes(4))], **odd))
    assert any(note in one for one in container.notes), container.notes
    assert container.read("w").tobytes() == ONE.data
    assert container.column_major == (odd.get("flags") == 0x0C00)


def test_an_unsorted_index_and_shared_bytes_are_noted(tmp_path: Path) -> None:
    shared = RawTensor("a", 0, (2, 3), b"", size=24, offset=0)
    notes = opened(tmp_path, raw_apr({}, [ONE, shared])).notes
    assert any("not sorted" in note for note in notes)
    assert any("share bytes" in note for note in notes)


def test_repeated_keys_count_last_and_are_noted(tmp_path: Path) -> None:
    container = opened(tmp_path, raw_apr(b'{"hidden_size": 1, "hidden_size": 64}'))
    assert container.settings["embedding_length"].value == 64
    assert any("'hidden_size' twice" in note for note in container.notes)


# bytes of 96 weights: by what the code means to aprender, and by GGML's meaning of the code
@pytest.mark.parametrize(
    ("code", "nbytes", "dtype"),
    [
        (2, 192, "BF16"),
        (2, 54, "Q4_0"),
        (3, 768, "F64"),
        (3, 60, "Q4_1"),
        (6, 96, "I8"),
        (6, 66, "Q5_0"),
        (7, 96, "U8"),
        (7, 72, "Q5_1"),
        (8, 54, "APR_Q4"),
        (8, 102, "Q8_0"),
        (9, 100, "APR_Q8"),
        (9, 108, "Q8_1"),
        (30, 192, "BF16"),
        (128, 54, "APR_Q4"),
        (129, 100, "APR_Q8"),
    ],
)
def test_an_ambiguous_code_is_told_by_size(tmp_path: Path, code: int, nbytes: int, dtype: str) -> None:
    container = opened(tmp_path, raw_apr({}, [RawTensor("w", code, (3, 32), bytes(nbytes))]))
    assert container.tensors["w"].dtype == dtype


def test_colliding_sizes_have_aprenders_meaning(tmp_path: Path) -> None:
    """44 bytes are 44 of I8, and two blocks of Q5_0 too."""
    container = opened(tmp_path, raw_apr({}, [RawTensor("w", 6, (44,), bytes(44))]))
    assert container.tensors["w"].dtype == "I8"


@pytest.mark.parametrize(("nbytes", "fits"), [(3 * 2 * 144, True), (4 * 144, True), (5 * 144 + 1, False)])
def test_rows_of_k_quants_may_be_padded_each(tmp_path: Path, nbytes: int, fits: bool) -> None:
    data = raw_apr({}, [RawTensor("w", 12, (3, 320), bytes(nbytes))])
    if fits:
        assert opened(tmp_path, data).tensors["w"].nbytes == nbytes
    else:
        with pytest.raises(DamagedFileError, match=r"'w'.*\[3, 320\]"):
            opened(tmp_path, data)


def test_an_empty_head_is_a_placeholder(tmp_path: Path) -> None:
    container = opened(tmp_path, raw_apr({}, [RawTensor("lm_head.weight", 0, (520, 256))]))
    assert container.tensors["lm_head.weight"].dims == (520, 256)
    assert container.read("lm_head.weight").size == 0


def test_training_state_is_left_out(tmp_path: Path) -> None:
    state = RawTensor("__training__.optim.m", 77, (1,), bytes(4))
    assert list(opened(tmp_path, raw_apr({}, [state, ONE])).tensors) == ["w"]


def test_an_unknown_code_names_tensor_and_code(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'w'.*77"):
        opened(tmp_path, raw_apr({}, [RawTensor("w", 77, (1,), bytes(4))]))


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (RawTensor("w", 0, (2, 3), bytes(20)), "24 bytes"),
        (RawTensor("w", 0, (2, 3), bytes(24), offset=1 << 62), "after the end of the file"),
        (RawTensor("w", 0, (1 << 40, 1 << 40), bytes(24)), "weights"),
        (RawTensor("w", 0, (1,) * 9, bytes(4)), "9 dims"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_damage(tmp_path: Path, tensor: RawTensor, says: str) -> None:
    with pytest.raises(DamagedFileError, match=rf"'w'.*{says}"):
        opened(tmp_path, raw_apr({}, [tensor]))


def test_a_tensor_named_twice_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"'w'.*twice"):
        opened(tmp_path, raw_apr({}, [ONE, ONE]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw_apr(b"[1]"), "object"),
        (raw_apr(b"{'a': 1}"), "JSON"),
        (raw_apr(b'{"a": NaN}'), "NaN"),
        (raw_apr(b'{"a": "\xff"}'), "JSON"),
        (raw_apr(b'{"a": ' + b"[" * 60_000 + b"]" * 60_000 + b"}"), "deep"),
        (raw_apr(b'{"a": ' + b"9" * 5_000 + b"}"), "an integer of thousands of digits: copy"),
        (raw_apr({"hidden_size": "many"}), "hidden_size.*whole number"),
        (raw_apr({"hidden_size": -1}), "hidden_size.*from 0 on"),
        (raw_apr({"model_config": "{"}), "model_config"),
        (raw_apr({"model_config": 3}), "model_config"),
        (
            raw_apr({}, magic=b"APR2").replace((64).to_bytes(8, "little"), (8).to_bytes(8, "little")),
            "inside the header",
        ),
        (raw_apr({}, index=b'[{"name": "w"}]'), "without its fields"),
        (raw_apr({}, index=b"[{]"), "the index is no JSON"),
        (raw_apr({}, count=1 << 31), "2,147,483,648 tensors"),
        (raw_apr({}, [ONE], count=3), "tensors|index"),
    ],
)
def test_damaged_parts_are_said(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(DamagedFileError, match=says):
        opened(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw_apr({}, flags=0x0404), "encrypted"),
        (raw_apr({}, flags=0x0410), "shard"),
        (raw_apr({"sharding": {"shard_count": 3, "shard_index": 0}}), "one of 3 shards"),
        (raw_apr(b"\x04\x22\x4d\x18 compressed", flags=0x0401), "LZ4"),
        (raw_apr(b"\x28\xb5\x2f\xfd compressed", flags=0x0402), "ZSTD"),
        (
            raw_apr(
                {}, index=b'[{"name":"weights","dtype":"json","shape":[9],"offset":0,"size":9}]', count=1
            ),
            "JSON dump",
        ),
        (b"APR1" + struct.pack("<I", 20) + b'{"a": 1}' + bytes(60), "APR1-JSON"),
        (b"APR1" + struct.pack("<H", 1) + bytes(60), "whisper"),
        (b"APR\x02" + bytes(60), "documentation"),
        (b"APR\0" + struct.pack("<I", 1) + bytes(60), "flat config"),
        (b"APR\0\x01" + struct.pack("<I", 500) + bytes(60), "LZ4"),
        (b"APR\0\x02" + struct.pack("<I", 500) + b"\x28\xb5\x2f\xfd" * 15, "ZSTD"),
        (b"APRN\x01\x00\x09\x00" + bytes(60), "Knn"),
    ],
)
def test_other_dialects_are_refused_by_name(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "model.apr"
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match=says) as caught:
        open_container(path)
    assert caught.value.remedy


def test_a_json_index_of_real_tensors_is_read(tmp_path: Path) -> None:
    index = json.dumps([{"name": "w", "dtype": "f32", "shape": [2, 3], "offset": 0, "size": 24}]).encode()
    body = raw_apr({}, [ONE], index=index)
    assert opened(tmp_path, body).read("w").tobytes() == ONE.data


def test_aliases_stand_in_for_nulls_in_order_of_trust(tmp_path: Path) -> None:
    metadata = {
        "hidden_size": None,
        "n_embd": 64,
        "num_layers": 2,
        "n_layer": 9,
        "model.num_heads": 4,
        "rope_theta": 1e6,
        "model.rope_theta": 1e4,
        "model_config": json.dumps({"num_attention_heads": 8, "num_kv_heads": 1, "head_dim_override": 32}),
    }
    found = settings(tmp_path, metadata)
    assert found == {
        "embedding_length": 64,
        "block_count": 2,
        "attention.head_count": 4,
        "attention.head_count_kv": 1,
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.freq_base": 1e6,
    }


def test_the_base_of_the_format_comes_before_a_table_of_config_json(tmp_path: Path) -> None:
    """aprender reads rope_theta at the top and knows no rope_parameters (apr-format.md, 4.1)."""
    table = {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}
    assert settings(tmp_path, {"rope_theta": 1e6, **table}) == {"rope.freq_base": 1e6}
    assert settings(tmp_path, table) == {"rope.freq_base": 1e4}


def test_every_forward_fact_has_its_gguf_key(tmp_path: Path) -> None:
    metadata = {
        "layer_norm_eps": 1e-12,
        "rope_type": 2,
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
        "sliding_window": 128,
        "hidden_act": "silu",
        "tied_embeddings": True,
        "query_pre_attn_scalar": 256,
        "tokenizer.bos_token_id": 1,
        "tokenizer.eos_token_id": 2,
    }
    assert settings(tmp_path, metadata) == {
        "attention.layer_norm_rms_epsilon": 1e-12,
        "rope.type": 2,
        "rope.freq_base": 5e5,
        "rope.scaling": {"rope_type": "llama3", "factor": 8.0},
        "attention.sliding_window": 128,
        "activation": "silu",
        "tied_embeddings": True,
        "attention.scale": 0.0625,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


@pytest.mark.parametrize(
    ("metadata", "architecture"),
    [
        ({"architecture": "qwen2", "model_type": "Auto"}, "qwen2"),
        ({"architecture": "auto", "hf_model_type": "llama"}, "llama"),
        ({"architecture": None, "model_type": "transformer_lm_q4k"}, None),
        ({"model.architecture": "gpt2"}, "gpt2"),
    ],
)
def test_the_architecture_is_what_the_file_says(
    tmp_path: Path, metadata: dict[str, Any], architecture: str | None
) -> None:
    assert opened(tmp_path, raw_apr(metadata)).architecture == architecture


def test_an_entrenar_checkpoint_says_that_its_linears_are_transposed(tmp_path: Path) -> None:
    assert opened(tmp_path, raw_apr({"format": "entrenar-checkpoint"})).transposed_linears
    assert not opened(tmp_path, raw_apr({})).transposed_linears


def test_realizars_own_files_are_read(samples: Path) -> None:
    container = open_container(samples / "apr" / "rs_pygmy_hf.apr")
    assert container.tensors["layers.0.mlp.gate_proj.weight"].dims == (16, 8)
    assert container.settings["block_count"].value == 1
    assert any("not sorted" in note for note in container.notes)


def test_a_classic_model_is_refused_by_name(samples: Path) -> None:
    with pytest.raises(UnsupportedError, match="LogisticRegression"):
        open_container(samples / "apr" / "mnist_784x2.apr")


@pytest.mark.parametrize("model", ["llama", "qwen2", "gpt2"])
def test_an_independent_writers_weights_are_those_of_the_gguf(samples: Path, model: str) -> None:
    left = open_container(samples / "models" / model / "from-gguf-f16.apr")
    right = open_container(samples / "models" / model / "model-f16.gguf")
    assert set(left.tensors) == set(right.tensors)
    for name, entry in left.tensors.items():
        assert entry == right.tensors[name]
        assert left.read(name).tobytes() == right.read(name).tobytes()


def test_a_tensor_with_the_bytes_of_another_dtype_is_opened_as_it_is_declared(tmp_path: Path) -> None:
    """Q6_K bytes under Q4_K's code: what a comparison names, so the file must open."""
    data = raw_apr({}, [RawTensor("w", 12, (2, 256), bytes(2 * 210))])
    entry = opened(tmp_path, data).tensors["w"]
    assert (entry.dtype, entry.nbytes) == ("Q4_K", 420)
