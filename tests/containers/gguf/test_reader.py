"""GGUF files of either version and byte order, whole or split, are read as gguf-py reads them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fixtures.raw_gguf import ARRAY, F32, TEXT, U32, RawInfo, raw_gguf
from rosetta.containers import open_container
from rosetta.containers.container import Container, TensorInput
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.gguf.reader import open as open_gguf
from rosetta.containers.gguf.writer import write_gguf
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError

ONE = RawInfo("w", (3, 2), 0, np.arange(6, dtype=np.float32).tobytes())
NAMED = [("general.architecture", TEXT, "llama")]


def opened(tmp_path: Path, data: bytes) -> GgufContainer:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return open_gguf(path)


def value_of(field: gguf.ReaderField) -> Any:
    value = field.contents()
    return bytes(value) if field.types[-1] is gguf.GGUFValueType.UINT8 and len(field.types) > 1 else value


def held_to_gguf_py(path: Path) -> None:
    """Every key, tensor and byte is as gguf-py's reader has it."""
    oracle = gguf.GGUFReader(path)
    container = open_container(path)
    expected = {key: value_of(field) for key, field in oracle.fields.items() if not key.startswith("GGUF.")}
    assert dict(container.metadata) == expected
    assert list(container.tensors) == [tensor.name for tensor in oracle.tensors]
    for tensor in oracle.tensors:
        entry = container.tensors[tensor.name]
        assert entry.dtype == tensor.tensor_type.name
        assert entry.dims == tuple(int(n) for n in reversed(tensor.shape))
        assert entry.nbytes == tensor.n_bytes
        if oracle.endianess is gguf.GGUFEndian.LITTLE:
            assert container.read(tensor.name).tobytes() == tensor.data.tobytes()
    container.close()


@pytest.mark.parametrize("model", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("quant", ["f16", "q4_k_m"])
def test_llama_cpps_own_files_are_read_as_gguf_py_reads_them(samples: Path, model: str, quant: str) -> None:
    held_to_gguf_py(samples / "models" / model / f"model-{quant}.gguf")


def test_a_real_vocabulary_is_decoded_only_when_asked_for(samples: Path) -> None:
    """Its 151,936 tokens and 151,387 merges are some 30 MB of Python strings."""
    path = samples / "vocabs" / "ggml-vocab-qwen2.gguf"
    open_container(path).close()  # whatever is imported for it
    tracemalloc.start()
    container = open_container(path)
    opened = tracemalloc.get_traced_memory()[1]
    tokens = list(container.metadata["tokenizer.ggml.tokens"])
    decoded = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opened < 2 << 20 < 8 << 20 < decoded
    assert len(tokens) == container.settings["vocab_size"].value == 151936
    assert tokens[:3] == ["!", '"', "#"]
    assert container.metadata["tokenizer.ggml.merges"][0] == "Ġ Ġ"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_versions_and_byte_orders_read_alike(tmp_path: Path, order: str, version: int) -> None:
    data = np.arange(6, dtype=f"{order}f4").tobytes()
    pairs = [
        *NAMED,
        ("llama.attention.head_count", ARRAY, (U32, [4, 2])),
        ("llama.rope.freq_base", F32, 1e4),
        ("tokenizer.ggml.tokens", ARRAY, (TEXT, ["a", "", "ü"])),
        ("blob", ARRAY, (0, [1, 255])),
        ("long", TEXT, "é" * 50_000),
        ("wide", ARRAY, (11, [-1, 1 << 40])),
    ]
    container = opened(
        tmp_path, raw_gguf(pairs, [RawInfo("w", (3, 2), 0, data)], version=version, order=order)
    )
    assert isinstance(container, Container)
    assert container.read("w").view(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
    assert container.read("w", 6, 4).tobytes() == np.arange(6, dtype=np.float32).tobytes()[6:10]
    assert {key: setting.value for key, setting in container.settings.items()} == {
        "attention.head_count": [4, 2],
        "rope.freq_base": 10000.0,
        "vocab_size": 3,
    }
    assert container.metadata["tokenizer.ggml.tokens"] == ["a", "", "ü"]
    assert container.metadata["blob"] == b"\x01\xff"
    assert container.metadata["long"] == "é" * 50_000
    assert container.metadata["wide"] == [-1, 1 << 40]
    assert "long" in container.metadata
    assert len(container.metadata) == len(pairs)


@pytest.mark.parametrize(
    ("ne", "dims"),
    [
        ((3, 2), (2, 3)),
        ((6,), (6,)),
        ((6, 1), (1, 6)),
        ((3, 2, 1, 1), (2, 3)),
        ((6, 1, 1, 1), (6,)),
        ((1, 6), (6, 1)),
    ],
)
def test_dims_are_row_major_and_ones_that_pad_to_four_are_dropped(
    tmp_path: Path, ne: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    container = opened(tmp_path, raw_gguf(NAMED, [RawInfo("w", ne, 0, ONE.data)]))
    assert container.tensors["w"].dims == dims


def test_a_declared_alignment_is_honoured(tmp_path: Path) -> None:
    pairs = [*NAMED, ("general.alignment", U32, 256)]
    container = opened(tmp_path, raw_gguf(pairs, [ONE, RawInfo("v", (1,), 0, bytes(4))], alignment=256))
    assert container.read("w").tobytes() == ONE.data
    assert container.notes == ()


@pytest.mark.parametrize("alignment", [0, 3, 1 << 31, True])
def test_an_absurd_alignment_is_damage(tmp_path: Path, alignment: int) -> None:
    kind = 7 if alignment is True else U32
    with pytest.raises(DamagedFileError):
        opened(tmp_path, raw_gguf([*NAMED, ("general.alignment", kind, alignment)], [ONE]))


def test_a_tensor_out_of_place_is_noted(tmp_path: Path) -> None:
    notes = opened(tmp_path, raw_gguf(NAMED, [ONE, RawInfo("v", (6,), 0, ONE.data, offset=0)])).notes
    assert any("'v'" in note for note in notes)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw_gguf(NAMED, [ONE, ONE]), "'w'.*twice"),
        (raw_gguf([*NAMED, *NAMED]), "'general.architecture' twice"),
        (raw_gguf([("", U32, 1)]), "without a name"),
        (raw_gguf(NAMED, counts=(1 << 62, 1)), "4,611,686,018,427,387,904 tensors"),
        (raw_gguf(NAMED, counts=(0, 1 << 62)), "keys"),
        (raw_gguf(NAMED, [ONE], counts=(2, 1)), "header|byte"),
        (raw_gguf(NAMED, [RawInfo("w", (3, 2), 0, ONE.data, offset=1 << 63)]), "after the end of the file"),
        (raw_gguf(NAMED, [RawInfo("w", (1 << 40, 1 << 40), 0, b"")]), r"'w'.*dims"),
        (raw_gguf(NAMED, [RawInfo("w", (1,) * 5, 0, b"")]), "5 dims"),
        (raw_gguf(NAMED, [RawInfo("w", (33,), 8, bytes(68))]), "blocks of 32"),
        (raw_gguf([("general.architecture", U32, 1)]), "general.architecture.*text"),
        (raw_gguf([*NAMED, ("llama.block_count", TEXT, "many")]), "llama.block_count.*whole number"),
        (raw_gguf([*NAMED, ("llama.attention.value_length_mla", TEXT, "x")]), "value_length_mla.*number"),
    ],
)
def test_damaged_headers_are_said(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(DamagedFileError, match=says):
        opened(tmp_path, data)


def test_texts_that_changed_after_opening_are_said(tmp_path: Path) -> None:
    data = raw_gguf([("tokens", ARRAY, (TEXT, ["a"] * 5))])
    container = opened(tmp_path, data)
    container.path.write_bytes(data.replace((1).to_bytes(8, "little") + b"a", b"\xff" * 9))
    with pytest.raises(DamagedFileError, match="changed"):
        container.metadata["tokens"]


def test_an_array_that_claims_more_texts_than_there_are_is_damage(tmp_path: Path) -> None:
    data = raw_gguf([("tokens", ARRAY, (TEXT, ["a"] * 5))])
    for count in (20, 1 << 23, 1 << 60):
        claimed = data.replace((5).to_bytes(8, "little"), count.to_bytes(8, "little"), 1)
        with pytest.raises(DamagedFileError):
            opened(tmp_path, claimed)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (raw_gguf(NAMED, version=1), "version 1"),
        (raw_gguf(NAMED, version=4), "version 4"),
        (raw_gguf(NAMED, version=1, order=">"), "version 1"),
        (raw_gguf(NAMED, [RawInfo("w", (3, 2), 99, ONE.data)]), r"'w'.*type 99"),
    ],
)
def test_what_rosetta_does_not_read_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        opened(tmp_path, data)


def test_a_file_without_architecture_has_none(tmp_path: Path) -> None:
    container = opened(tmp_path, raw_gguf([("x.block_count", U32, 1)]))
    assert container.architecture is None
    assert container.settings == {}


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, ...]:
    tensors = [
        TensorInput(f"t{n}", "F32", (n + 1,), np.full(n + 1, n, np.float32).view(np.uint8)) for n in range(5)
    ]
    metadata = {"general.architecture": "llama", "llama.block_count": 2}
    return write_gguf(tmp_path / "model.gguf", metadata, tensors, split_max_tensors=2)


def test_a_split_model_opens_by_any_shard(shards: tuple[Path, ...]) -> None:
    assert [path.name for path in shards] == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for path in shards:
        container = open_container(path)
        assert container.path == path
        assert container.file_bytes == sum(shard.stat().st_size for shard in shards)
        assert container.settings["block_count"].value == 2
        for n in range(5):
            assert container.read(f"t{n}").view(np.float32).tolist() == [n] * (n + 1)
        container.close()


def test_a_missing_shard_is_named(shards: tuple[Path, ...]) -> None:
    shards[1].unlink()
    with pytest.raises(UsageError, match=r"model-00002-of-00003\.gguf is missing"):
        open_container(shards[0])


def test_a_renamed_shard_says_how_it_was_named(shards: tuple[Path, ...]) -> None:
    other = shards[0].rename(shards[0].with_name("weights.gguf"))
    with pytest.raises(UsageError, match="shard 1 of 3"):
        open_container(other)


def test_shards_out_of_order_are_damage(shards: tuple[Path, ...]) -> None:
    shards[2].write_bytes(shards[1].read_bytes())
    with pytest.raises(DamagedFileError, match=r"00003-of-00003\.gguf: says it is shard"):
        open_container(shards[0])


def test_a_shard_that_is_no_gguf_is_damage(shards: tuple[Path, ...]) -> None:
    shards[2].write_bytes(b"no model")
    with pytest.raises(DamagedFileError, match="does not begin"):
        open_container(shards[0])


def test_shards_of_another_model_are_damage(shards: tuple[Path, ...], tmp_path: Path) -> None:
    tensors = [TensorInput(f"t{n}", "F32", (1,), np.zeros(4, np.uint8)) for n in range(6)]
    (tmp_path / "b").mkdir()
    others = write_gguf(
        tmp_path / "b" / "model.gguf", {"general.architecture": "llama"}, tensors, split_max_tensors=2
    )
    shards[2].write_bytes(others[2].read_bytes())
    with pytest.raises(DamagedFileError, match="6 tensors, 5 were written"):
        open_container(shards[0])
    shards[1].write_bytes(others[1].read_bytes().replace(b"t3", b"t1"))
    with pytest.raises(DamagedFileError, match="another shard"):
        open_container(shards[0])
