"""What write_safetensors writes is read by the safetensors library, and each tensor can be viewed where it lies."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from rosetta.containers.container import TensorInput
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.safetensors_file import read_header, read_metadata, write_safetensors
from rosetta.containers.spool import Spool
from rosetta.errors import DamagedFileError

VALUES = {
    "odd": torch.arange(3, dtype=torch.uint8),
    "half": torch.tensor([1.5, -2.0, 3.25], dtype=torch.float16),
    "wide": torch.tensor([[2**40, -1]], dtype=torch.int64),
    "none": torch.zeros(0, 4),
    "scalar": torch.tensor(0.5),
}
DTYPES = {torch.uint8: "U8", torch.float16: "F16", torch.int64: "I64", torch.float32: "F32"}


def written(folder: Path, values: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
    path = folder / "w.safetensors"
    inputs = (
        TensorInput(name, DTYPES[x.dtype], tuple(x.shape), x.reshape(-1).numpy().view(np.uint8))
        for name, x in values.items()
    )
    with Spool(path, folder, inputs) as spool:
        write_safetensors(path, spool.tensors, metadata)
    return path


def test_the_library_reads_every_tensor_and_the_metadata(tmp_path: Path) -> None:
    path = written(tmp_path, VALUES, {"format": "pt", "note": "ü"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "ü"}
        assert set(file.keys()) == set(VALUES)
        for name, values in VALUES.items():
            assert torch.equal(file.get_tensor(name), values)
    file_bytes = FileBytes(path)
    entries, _ = read_header(file_bytes)
    assert {name: entry.dims for name, entry in entries.items()} == {
        n: tuple(v.shape) for n, v in VALUES.items()
    }
    assert read_metadata(file_bytes) == {"format": "pt", "note": "ü"}


def test_numbers_begin_at_multiples_of_their_size(tmp_path: Path) -> None:
    """In the order given the half-precision numbers would begin at byte 3."""
    _, places = read_header(FileBytes(written(tmp_path, VALUES, None)))
    sizes = {name: values.element_size() for name, values in VALUES.items()}
    assert {name: place % sizes[name] for name, place in places.items()} == dict.fromkeys(VALUES, 0)


def test_an_order_that_is_aligned_stays(tmp_path: Path) -> None:
    path = written(tmp_path, {"b": torch.ones(2), "a": torch.ones(4)}, None)
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert list(header) == ["b", "a"]
    assert header["a"]["data_offsets"] == [8, 24]
    assert (8 + length) % 8 == 0


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"GGUF\x03\0\0\0", "is a GGUF file"),
        (b"PK\x03\x04\0\0\0\0", "is an archive of torch.save"),
        (b"<!DOCTYPE html>", "is a web page"),
    ],
)
def test_another_file_under_the_name_is_called_what_it_is(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(head + bytes(200))
    with pytest.raises(DamagedFileError, match=said):
        read_header(FileBytes(path))
