"""Damaged files of every kind: an error of ours or a sound model, quickly and in little memory.

A case that is sound is used in full: every key decoded, every tensor read.
"""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fixtures.raw_apr import RawTensor, raw_apr
from fixtures.raw_gguf import ARRAY, F32, TEXT, U32, RawInfo, raw_gguf
from rosetta.containers import open_container
from rosetta.errors import RosettaError

SECONDS = 2.0  # of processor time a case; the usual one takes a millisecond
BYTES = 8 << 20  # of memory a case: the files have some kilobytes, the read-ahead window a quarter megabyte


def apr_bytes() -> bytes:
    metadata = {
        "architecture": "llama",
        "hidden_size": 8,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "tokenizer.vocabulary": ["a", "b"],
    }
    tensors = [
        RawTensor("model.embed_tokens.weight", 0, (2, 8), np.ones(16, np.float32).tobytes()),
        RawTensor("model.norm.weight", 1, (8,), np.ones(8, np.float16).tobytes()),
        RawTensor("q", 8, (2, 32), bytes(68)),
    ]
    return raw_apr(metadata, tensors)


def gguf_bytes(order: str) -> bytes:
    pairs = [
        ("general.architecture", TEXT, "llama"),
        ("general.alignment", U32, 32),
        ("llama.block_count", U32, 1),
        ("llama.attention.head_count", ARRAY, (U32, [4])),
        ("llama.rope.freq_base", F32, 1e4),
        ("tokenizer.ggml.tokens", ARRAY, (TEXT, ["a", "b", "c"])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [0.0, -1.0, 0.5])),
    ]
    tensors = [RawInfo("token_embd.weight", (8, 2), 0, bytes(64)), RawInfo("q", (32, 2), 8, bytes(68))]
    return raw_gguf(pairs, tensors, order=order)


def safetensors_bytes() -> bytes:
    return save({"model.embed_tokens.weight": np.ones((2, 8), np.float32), "n": np.ones(8, np.float16)})


FORMATS: dict[str, bytes] = {
    "apr": apr_bytes(),
    "gguf": gguf_bytes("<"),
    "big-endian gguf": gguf_bytes(">"),
    "huggingface": safetensors_bytes(),
}


def written(tmp_path: Path, kind: str, data: bytes) -> Path:
    """A model of the kind whose weight file holds the data."""
    if kind != "huggingface":
        path = tmp_path / "model"
        path.write_bytes(data)
        return path
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    (tmp_path / "model.safetensors").write_bytes(data)
    return tmp_path


def opened_in_bounds(path: Path, what: str) -> str:
    """Open and use the model; `sound`, or the sentence that refuses it."""
    start, before = time.process_time(), tracemalloc.get_traced_memory()[0]
    if tracemalloc.is_tracing():
        tracemalloc.reset_peak()
    try:
        container = open_container(path)
    except RosettaError as error:
        outcome = str(error)
        assert "\n" not in outcome, f"{what}: not one line: {outcome!r}"
        assert len(outcome) < 1000, f"{what}: {outcome[:100]}…"
        assert outcome.startswith(str(path)), f"{what}: the file is not named: {outcome}"
    else:
        for name, entry in container.tensors.items():
            assert container.read(name).nbytes == entry.nbytes
        assert len(dict(container.metadata)) == len(container.metadata), f"{what}: every key decodes"
        container.close()
        outcome = "sound"
    taken, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    assert taken < SECONDS, f"{what}: {taken:.1f} s"
    assert peak < BYTES, f"{what}: {peak:,} bytes"
    return outcome


@pytest.fixture
def measured_memory() -> Iterator[None]:
    """Count every allocation; it makes a case three times slower."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_undamaged_files_are_sound(tmp_path: Path, kind: str) -> None:
    assert opened_in_bounds(written(tmp_path, kind, FORMATS[kind]), kind) == "sound"


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_truncated_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    data = FORMATS[kind]
    # what follows the last weight is padding and a checksum, which a reader can do without
    needed = {"apr": len(data) - 4 - 60, "gguf": len(data) - 28, "big-endian gguf": len(data) - 28}
    for size in range(len(data)):
        outcome = opened_in_bounds(written(tmp_path, kind, data[:size]), f"{kind} cut at {size}")
        assert (outcome == "sound") == (size >= needed.get(kind, len(data))), (
            f"{kind} cut at {size}: {outcome}"
        )


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_byte_may_have_any_value(tmp_path: Path, kind: str) -> None:
    data = FORMATS[kind]
    header = len(data) - 132  # up to the data of the last tensors: bytes of weights change nothing
    outcomes = set()
    for position in range(header):
        for value in {0, 0x7F, 0xFF, data[position] ^ 0x01, data[position] ^ 0x20}:
            damaged = data[:position] + bytes([value]) + data[position + 1 :]
            outcomes.add(
                opened_in_bounds(written(tmp_path, kind, damaged), f"{kind} byte {position} = {value:#04x}")
            )
    assert len(outcomes) > 10, "the damage was not seen"


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.usefixtures("measured_memory")
def test_every_word_may_be_absurd(tmp_path: Path, kind: str) -> None:
    """Counts, lengths and offsets of 4 and 8 bytes anywhere in the header."""
    data = FORMATS[kind]
    order: Literal["big", "little"] = "big" if kind == "big-endian gguf" else "little"
    words = [b"\xff" * 4, *(number.to_bytes(8, order) for number in (1 << 33, 1 << 40, (1 << 63) - 1))]
    for position in range(len(data) - 132):
        for word in words:
            damaged = data[:position] + word + data[position + len(word) :]
            opened_in_bounds(written(tmp_path, kind, damaged), f"{kind} byte {position} = {word.hex()}")


@pytest.mark.usefixtures("measured_memory")
@given(kind=st.sampled_from(sorted(FORMATS)), drawn=st.data())
def test_any_splice_is_survived(
    tmp_path_factory: pytest.TempPathFactory, kind: str, drawn: st.DataObject
) -> None:
    data = FORMATS[kind]
    start = drawn.draw(st.integers(0, len(data)))
    end = drawn.draw(st.integers(start, len(data)))
    spliced = data[:start] + drawn.draw(st.binary(max_size=64)) + data[end:]
    opened_in_bounds(written(tmp_path_factory.mktemp("fuzz"), kind, spliced), f"{kind} {start}…{end}")


@pytest.mark.usefixtures("measured_memory")
@given(
    data=st.binary(max_size=200),
    magic=st.sampled_from([b"", b"GGUF", b"APR\0", b"APR\0\2\0", b"APRN", b"APR1", b"APR2"]),
)
def test_any_bytes_after_any_magic_are_survived(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bytes
) -> None:
    opened_in_bounds(written(tmp_path_factory.mktemp("fuzz"), "apr", magic + data), f"{magic!r} + {data!r}")


@pytest.mark.usefixtures("measured_memory")
@pytest.mark.parametrize("kind", ["gguf", "apr"])
def test_a_large_sparse_file_of_zeros_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Counts that the file's size would allow, and nothing behind them."""
    path = written(tmp_path, kind, FORMATS[kind][:64])
    data = bytearray(FORMATS[kind][:24] if kind == "gguf" else FORMATS[kind][:64])
    if kind == "gguf":
        data[8:24] = (1 << 19).to_bytes(8, "little") + (1 << 24).to_bytes(8, "little")
    else:
        data[20:24] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    os.truncate(path, 4 << 30)
    assert opened_in_bounds(path, kind) != "sound"


def test_an_array_of_more_texts_than_any_vocabulary_is_not_walked(tmp_path: Path) -> None:
    """A gigabyte of zeros is 134 million empty texts: a minute's work to step over."""
    data = raw_gguf([("tokens", ARRAY, (TEXT, []))])
    at = data.index((8).to_bytes(4, "little") + bytes(8)) + 4
    path = written(tmp_path, "gguf", data[:at] + (1 << 26).to_bytes(8, "little"))
    os.truncate(path, 1 << 30)
    assert "67,108,864 texts" in opened_in_bounds(path, "texts")


@pytest.mark.usefixtures("measured_memory")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"1" * 5000, b"null"]
)
def test_damaged_json_of_a_folder_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / name).write_bytes(text)
    assert opened_in_bounds(tmp_path, f"{name} = {text[:20]!r}") != "sound"
