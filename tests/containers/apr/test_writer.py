"""What write_apr writes obeys every rule of the strict reader, held to by a reader made from those rules."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta.containers.apr.reader import open as open_apr
from rosetta.containers.apr.writer import Codes, write_apr
from rosetta.containers.container import TensorInput
from rosetta.errors import UnsupportedError, UsageError

# dtype codes of the strict reader, and bytes of a tensor by weights (aprender, tensor_index_impl.rs)
STRICT_CODES = {0, 1, 3, 4, 5, 6, 7, 8, 9, 12, 14, 30, 128, 129}
SAFE_BYTES = {
    "F32": (0, lambda n: 4 * n),
    "F16": (1, lambda n: 2 * n),
    "BF16": (30, lambda n: 2 * n),
    "Q4_K": (12, lambda n: n // 256 * 144),
    "Q6_K": (14, lambda n: n // 256 * 210),
}
LLAMA = {"architecture": "llama", "hidden_size": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}


def random_tensor(name: str, dtype: str, dims: tuple[int, ...]) -> TensorInput:
    nbytes = SAFE_BYTES[dtype][1](int(np.prod(dims, dtype=np.int64)))
    generator = np.random.default_rng(len(name) + nbytes)
    return TensorInput(name, dtype, dims, generator.integers(0, 256, nbytes, np.uint8))


def strictly_read(data: bytes) -> tuple[dict[str, Any], dict[str, tuple[int, tuple[int, ...], bytes]]]:
    """Metadata and tensors (code, dims, bytes), asserting each rule of the strict reader on the way."""
    fields = struct.unpack("<4sBBHIQIQQI20s", data[:64])
    magic, major, minor, flags, count, metadata_at, size, index_at, data_at, checksum, reserved = fields
    assert (magic, major, minor, reserved) == (b"APR\0", 2, 0, bytes(20))
    assert checksum == zlib.crc32(data[:40] + data[44:64]), "header checksum"
    assert flags & 0x0400, "LAYOUT_ROW_MAJOR is set"
    assert not flags & (0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0800), f"flags {flags:#06x}"
    assert metadata_at == 64
    assert index_at == 64 + -(-size // 64) * 64
    assert data[64 + size : index_at] == bytes(index_at - 64 - size), "metadata is padded with zeros"
    metadata = json.loads(data[64 : 64 + size], object_pairs_hook=no_key_twice)
    assert not [
        key for key, value in metadata.items() if value is None and "licen" not in key and "data_s" not in key
    ]
    position, tensors, names, end = index_at, {}, [], 0
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, position)
        name = data[position + 2 : position + 2 + length].decode()
        code, ndim = data[position + 2 + length : position + 4 + length]
        position += 4 + length
        *dims, offset, nbytes = struct.unpack_from(f"<{ndim + 2}Q", data, position)
        position += 8 * ndim + 16
        assert code in STRICT_CODES, f"dtype code {code}"
        assert length <= 256
        assert ndim <= 8
        assert offset == end, "data lies in the order of the index, without gaps"
        end = offset + -(-nbytes // 64) * 64
        names.append(name.encode())
        tensors[name] = (code, tuple(dims), data[data_at + offset : data_at + offset + nbytes])
        assert data[data_at + offset + nbytes : data_at + end] == bytes(end - offset - nbytes), "zero padding"
    assert names == sorted(set(names)), "sorted by the bytes of the names, and no name twice"
    assert data_at == index_at + -(-(position - index_at) // 64) * 64
    assert data_at % 64 == 0
    assert len(data) == data_at + end + 4, "every tensor is padded, and the footer is the last word"
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4]), "footer checksum"
    return metadata, tensors


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), "no key twice"
    return dict(pairs)


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[TensorInput]:
    names = draw(st.lists(st.text(min_size=1, max_size=40).filter(encodable), unique=True, max_size=6))
    tensors = []
    for name in names:
        dtype = draw(st.sampled_from(sorted(SAFE_BYTES)))
        if dtype == "F32":
            dims = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
        else:
            dims = (draw(st.integers(1, 3)), 256 * draw(st.integers(1, 2)))
        tensors.append(random_tensor(name, dtype, dims))
    return tensors


def encodable(text: str) -> bool:
    return (
        text.isprintable()
        and not text.startswith("__training__")
        and not any("\ud800" <= c <= "\udfff" for c in text)
    )


@given(
    tensors=tensor_lists(),
    extra=st.dictionaries(st.text(max_size=8).filter(encodable), st.integers(), max_size=3),
)
def test_what_is_written_obeys_the_strict_reader_and_reads_back(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[TensorInput], extra: dict[str, int]
) -> None:
    path = tmp_path_factory.mktemp("apr") / "model.apr"
    metadata = {f"x.{key}": value for key, value in extra.items()} | LLAMA
    write_apr(path, metadata, iter(tensors))
    read, strict = strictly_read(path.read_bytes())
    assert {key: read[key] for key in metadata} == metadata
    assert strict == {t.name: (SAFE_BYTES[t.dtype][0], t.dims, t.data.tobytes()) for t in tensors}
    container = open_apr(path)
    assert container.notes == ()
    assert {name: (e.dtype, e.dims) for name, e in container.tensors.items()} == {
        t.name: (t.dtype, t.dims) for t in tensors
    }
    for tensor in tensors:
        assert container.read(tensor.name).tobytes() == tensor.data.tobytes()


def test_the_pinned_size_of_aprenders_golden_file_is_met(tmp_path: Path) -> None:
    """A file without tensors is header, padded metadata and footer, nothing else."""
    write_apr(tmp_path / "m.apr", {"architecture": "llama"}, [])
    data = (tmp_path / "m.apr").read_bytes()
    metadata, _ = strictly_read(data)
    assert metadata == {"architecture": "llama", "license": None, "data_source": None, "data_license": None}
    assert len(data) == 64 + 128 + 4


def test_flags_tell_quantised_weights_and_a_vocabulary(tmp_path: Path) -> None:
    tensors = [random_tensor("w", "Q4_K", (2, 256))]
    write_apr(tmp_path / "m.apr", {"tokenizer.vocabulary": ["a"]}, tensors)
    assert struct.unpack_from("<H", (tmp_path / "m.apr").read_bytes(), 6)[0] == 0x0400 | 0x0020 | 0x0200


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (TensorInput("w", "IQ4_NL", (1, 32), np.zeros(18, np.uint8)), "no IQ4_NL"),
        (TensorInput("w", "Q8_0", (1, 32), np.zeros(34, np.uint8)), "Q8_0"),
        (TensorInput("w", "F16", (4,), np.zeros(8, np.uint8)), "vector of F16"),
        (TensorInput("w", "Q4_K", (2, 320), np.zeros(576, np.uint8)), "rows of 320"),
        (TensorInput("w" * 257, "F32", (1,), np.zeros(4, np.uint8)), "257"),
        (TensorInput("w", "F32", (1,) * 9, np.zeros(4, np.uint8)), "9 dims"),
    ],
)
def test_what_apr_cannot_hold_is_refused_by_name(tmp_path: Path, tensor: TensorInput, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        write_apr(tmp_path / "m.apr", {}, [tensor])
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("dtype", "dims", "nbytes"),
    [
        ("Q8_0", (2, 32), 68),
        ("Q4_0", (2, 32), 36),
        ("Q5_1", (2, 32), 48),
        ("Q5_K", (1, 256), 176),
        ("Q2_K", (1, 256), 84),
        ("APR_Q4", (3, 32), 54),
        ("APR_Q8", (3, 7), 25),
        ("I8", (3, 5), 15),
        ("U8", (3, 5), 15),
        ("I32", (3,), 12),
        ("I64", (3,), 24),
        ("F64", (3,), 24),
        ("F16", (3,), 6),
        ("Q4_K", (3, 320), 3 * 2 * 144),
        ("F32", (3, 4), 0),
    ],
)
def test_all_codes_read_back_under_their_own_name(
    tmp_path: Path, dtype: str, dims: tuple[int, ...], nbytes: int
) -> None:
    data = np.arange(nbytes, dtype=np.uint8)
    write_apr(tmp_path / "m.apr", {}, [TensorInput("w", dtype, dims, data)], codes="all")
    container = open_apr(tmp_path / "m.apr")
    entry = container.tensors["w"]
    assert (entry.dtype, entry.dims, entry.nbytes) == (dtype, dims, nbytes)
    assert container.read("w").tolist() == data.tolist()


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"hidden_dim": 64}, "hidden_size"),
        ({"hidden_size": 64.0}, "whole number"),
        ({"num_layers": True}, "whole number"),
        ({"quantization": "Q4_K"}, "quant_type"),
        ({"rope_theta": float("nan")}, "finite"),
        ({"x": float("inf")}, "JSON"),
        ({"x": object()}, "JSON"),
    ],
)
def test_metadata_that_a_strict_loader_refuses_is_not_written(
    tmp_path: Path, metadata: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        write_apr(tmp_path / "m.apr", metadata, [])


@pytest.mark.parametrize("codes", ["safe", "all"])
def test_bytes_that_do_not_fit_the_dims_are_refused(tmp_path: Path, codes: Codes) -> None:
    with pytest.raises(UsageError, match="w"):
        write_apr(tmp_path / "m.apr", {}, [TensorInput("w", "F32", (3,), np.zeros(8, np.uint8))], codes=codes)


def test_a_tensor_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        write_apr(tmp_path / "m.apr", {}, [random_tensor("w", "F32", (2,))] * 2)


def test_a_failing_source_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.apr"
    path.write_bytes(b"old")

    def failing() -> Any:
        yield random_tensor("a", "F32", (2,))
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_apr(path, {}, failing())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_apr(tmp_path / "no" / "m.apr", {}, [])


def test_an_independent_writers_strict_file_passes_the_same_checker(samples: Path) -> None:
    """The checker is held to a file that realizar's own parser accepted."""
    data = (samples / "apr" / "py_strict.apr").read_bytes()
    metadata, tensors = strictly_read(data)
    assert metadata["architecture"] == "llama"
    assert {name: code for name, (code, _, _) in tensors.items()}["t.q6k"] == 14
