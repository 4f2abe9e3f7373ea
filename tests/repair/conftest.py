"""Runs `rosetta repair` in this process and looks at what it wrote with other people's readers."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import pytest
from safetensors import safe_open

from rosetta import cli

Bytes = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Tensor name -> (dtype as the file's own format spells it, dims as declared, data)."""
PROMPT = "Hello world, it's 2+2= 12345 and so on"


@dataclass(frozen=True)
class Run:
    """What the command gave: exit code, stdout, stderr, where the repaired file should be."""

    code: int
    out: str
    err: str
    fixed: Path


Repair = Callable[..., Run]


@pytest.fixture
def repair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Repair:
    """`repair(left, right, "--reference", "left")`: inputs are checked to be untouched, leftovers to be none.

    `--allow-copy` is given unless `copy` is False: one tensor is a tenth of a model so small.
    """

    def run(left: Path, right: Path, *options: str, fixed: Path | None = None, copy: bool = True) -> Run:
        target = fixed or tmp_path / f"fixed{left.suffix}"
        before = digest(left), digest(right)
        beside = set(target.parent.iterdir()) if target.parent.is_dir() else set()
        capsys.readouterr()
        prompt = () if {"--prompt", "--tokens"} & set(options) else ("--prompt", PROMPT)
        allowed = ("--allow-copy",) if copy else ()
        code = cli.run(["repair", str(left), str(right), "-o", str(target), *prompt, *allowed, *options])
        captured = capsys.readouterr()
        assert (digest(left), digest(right)) == before, "an input was touched"
        if target.parent.is_dir():
            assert set(target.parent.iterdir()) - beside <= {target}, "something was left beside the file"
        return Run(code, captured.out, captured.err, target)

    return run


def digest(path: Path) -> str:
    """Of a file, or of all files of a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        found.update(str(file.relative_to(path.parent)).encode())
        found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()


def tensors(path: Path) -> Bytes:
    """All tensors of a file or folder, read by gguf-py, by safetensors, or by an index walk of our own here."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        return {name: found for file in files for name, found in _safetensors(file).items()}
    return _gguf(path) if path.read_bytes()[:4] == b"GGUF" else apr(path)[2]


def _gguf(path: Path) -> Bytes:
    reader = gguf.GGUFReader(path)
    return {
        t.name: (t.tensor_type.name, tuple(int(n) for n in t.shape[::-1]), t.data.tobytes())
        for t in reader.tensors
    }


def _safetensors(path: Path) -> Bytes:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    with safe_open(path, "pt") as file:  # the library itself must take it, and give every tensor
        assert {name: tuple(file.get_tensor(name).shape) for name in file.keys()} == {  # noqa: SIM118
            name: tuple(info["shape"]) for name, info in header.items()
        }
    return {
        name: (
            info["dtype"],
            tuple(info["shape"]),
            data[slice(*(8 + length + at for at in info["data_offsets"]))],
        )
        for name, info in header.items()
    }


def apr(path: Path) -> tuple[dict[str, object], list[str], Bytes]:
    """Metadata, names in the order of the index, and tensors of an `.apr` file that obeys the strict reader."""
    data = path.read_bytes()
    magic, _, _, flags, count, at, size, index_at, data_at, checksum = struct.unpack_from(
        "<4sBBHIQIQQI", data
    )
    assert magic == b"APR\0"
    assert flags & 0x0C00 == 0x0400, "row-major, and not column-major"
    assert checksum == zlib.crc32(data[44:64], zlib.crc32(data[:40]))
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    assert (at, index_at % 64, data_at % 64) == (64, 0, 0)
    found: Bytes = {}
    names = []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, index_at)
        name = data[index_at + 2 : index_at + 2 + length].decode()
        code, ndim = data[index_at + 2 + length : index_at + 4 + length]
        *dims, offset, nbytes = struct.unpack_from(f"<{ndim + 2}Q", data, index_at + 4 + length)
        index_at += 4 + length + 8 * (ndim + 2)
        assert offset % 64 == 0
        names.append(name)
        found[name] = (str(code), tuple(dims), data[data_at + offset : data_at + offset + nbytes])
    assert names == sorted(names, key=str.encode)
    return json.loads(data[64 : 64 + size]), names, found


def changed(before: Bytes, after: Bytes) -> set[str]:
    """Names of the tensors that are not the same in both."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def gguf_keys(path: Path) -> dict[str, tuple[tuple[int, ...], object]]:
    """Key -> (value types, value) by gguf-py, in the order of the file."""
    reader = gguf.GGUFReader(path)
    return {
        key: (tuple(int(kind) for kind in field.types), field.contents())
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }
