"""Writes a repaired GGUF file: keys, order, alignment, version and byte order as they were, shards joined."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from gguf.constants import GGMLQuantizationType

from rosetta.containers.byte_order import swap_in_place
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.dtypes import GGUF_CODES, flat_bytes, whole_rows
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.gguf.header import GgufHeader, read_header
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.gguf.writer import MAX_DIMS
from rosetta.containers.spool import Spool, folder_beside
from rosetta.repair.changes import ABSENT, Change
from rosetta.repair.fix import Fix, Progress, Written, remade, shape
from rosetta.repair.gguf_keys import Keys, state_settings
from rosetta.repair.planned import ROPE_FACTORS
from rosetta.repair.target import publish

NATIVE = "<" if sys.byteorder == "little" else ">"
SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


def write_gguf_copy(path: Path, fix: Fix, progress: Progress) -> Written:
    """Write the repaired copy of a GGUF file.

    Args:
        path: the file to be written.
        fix: what is to be repaired.
        progress: hears how far the writing has come.

    Raises:
        UsageError: it cannot be written there.
    """
    container = fix.base.container
    assert isinstance(container, GgufContainer)
    written = Written()
    file = FileBytes(container.files[0])
    try:
        header = read_header(file)
        keys = Keys(file, header.order, container.metadata)
    finally:
        file.close()
    if len(container.files) > 1:
        for key in SPLIT_KEYS:
            keys.pairs.pop(key, None)
        written.notes.append(f"the {len(container.files)} shards of {container.path} are joined in one file")
    written.unsaid, factors = state_settings(keys, fix)
    written.changes += keys.changes
    with (
        folder_beside(path) as folder,
        Spool(path, folder, _tensors(fix, factors, written)) as spool,
        (folder / "model.gguf").open("wb") as out,
    ):
        _write(out, fix, keys, header, spool, progress)
        out.close()
        publish(folder / "model.gguf", path)
    return written


def _tensors(fix: Fix, factors: tuple[float, ...], written: Written) -> Iterator[TensorInput]:
    """The tensors made anew, those of a rope scaling that is stated as factors among them."""
    vectors = {entry.dtype for entry in fix.base.container.tensors.values() if len(entry.dims) < 2}

    def holds(tensor: TensorInput, foreign: bool) -> bool:
        fits = tensor.dtype in GGUF_CODES.values() and whole_rows(tensor.dtype, tensor.dims)
        if (
            not fits
            or len(tensor.dims) > MAX_DIMS
            or tensor.data.nbytes != flat_bytes(tensor.dtype, tensor.dims)
        ):
            return False
        return (
            not foreign or len(tensor.dims) > 1 or tensor.dtype in vectors
        )  # llama.cpp adds and multiplies by F32

    for tensor in remade(fix, holds, written):
        if tensor.name != ROPE_FACTORS:
            yield tensor
    if factors:
        tensor = TensorInput(
            ROPE_FACTORS, "F32", (len(factors),), np.array(factors, np.float32).view(np.uint8)
        )
        old = fix.base.container.tensors.get(ROPE_FACTORS)
        written.changes = [change for change in written.changes if change.subject != ROPE_FACTORS]
        written.changes.append(
            Change(ROPE_FACTORS, shape(old) if old else ABSENT, shape(tensor), "rope.scaling")
        )
        yield tensor


def _write(
    out: IO[bytes], fix: Fix, keys: Keys, header: GgufHeader, spool: Spool, progress: Progress
) -> None:
    anew = {tensor.entry.name: tensor for tensor in spool.tensors}
    container, order = fix.base.container, header.order
    names = list(dict.fromkeys([*(p.name for p in fix.layout.tensors), *anew]))
    entries = {name: anew[name].entry if name in anew else container.tensors[name] for name in names}
    out.write(b"GGUF" + struct.pack(f"{order}IQQ", header.version, len(names), len(keys.pairs)))
    for pair in keys.pairs.values():
        out.write(pair)
    position = 0
    for entry in entries.values():
        out.write(_info(entry, order, position))
        position += -(-entry.nbytes // header.alignment) * header.alignment
    _pad(out, header.alignment)
    for done, name in enumerate(names):
        progress(name, done, len(names))
        data = spool.data(anew[name]) if name in anew else container.read(name, 0, entries[name].nbytes)
        if order != NATIVE:
            swap_in_place(entries[name].dtype, data)
        out.write(data.data)
        _pad(out, header.alignment)


def _info(entry: TensorEntry, order: str, position: int) -> bytes:
    name, code = entry.name.encode(), GGMLQuantizationType[entry.dtype].value
    dims = struct.pack(f"{order}I{len(entry.dims)}Q", len(entry.dims), *entry.dims[::-1])
    return struct.pack(f"{order}Q", len(name)) + name + dims + struct.pack(f"{order}IQ", code, position)


def _pad(out: IO[bytes], alignment: int) -> None:
    out.write(bytes(-out.tell() % alignment))
