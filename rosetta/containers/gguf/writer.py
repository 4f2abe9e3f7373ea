"""Writes GGUF files, in either byte order, whole or split.

`write_gguf` makes a new file out of keys and tensors; `pack_gguf` lays out any, a copy of an old one too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from rosetta.containers.byte_order import NATIVE, swap_in_place
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.gguf.header import DEFAULT_ALIGNMENT, MAX_DIMS
from rosetta.containers.gguf.packing import packed_info, packed_pair
from rosetta.containers.spool import Chunk, Progress, Spool, TensorSource
from rosetta.containers.unfinished import folder_beside
from rosetta.dtypes import DTYPES, flat_bytes, whole_rows
from rosetta.errors import UnsupportedError, UsageError

MAX_NAME = 63  # bytes; ggml.h, GGML_MAX_NAME with its closing zero


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Iterable[TensorInput],
    *,
    big_endian: bool = False,
    split_max_tensors: int = 0,
) -> tuple[Path, ...]:
    """Write a GGUF v3 file; it appears under its name only when it is complete.

    Args:
        path: the file; an existing one is replaced. Shards are named `STEM-00001-of-0000N.gguf` after it.
        metadata: GGUF keys with Python values, typed as llama.cpp expects them (see `packed_pair`). None means
            absent.
        tensors: consumed once, so that a generator needs memory for one tensor only.
        big_endian: byte order of the file; tensor data is given in the machine's order either way.
        split_max_tensors: most tensors of a shard; 0 for one file.

    Returns:
        The files written.

    Raises:
        UnsupportedError: a dtype, name, shape or value that GGUF does not hold.
        UsageError: no `general.architecture`, a tensor given twice, bytes that are not the dims'.
    """
    path = Path(path)
    if not isinstance(metadata.get("general.architecture"), str):
        raise UsageError("GGUF needs a text there", file=path, where="key 'general.architecture'")
    order = ">" if big_endian else "<"
    first = {"general.architecture": metadata["general.architecture"], **metadata}
    pairs = [pair for key, value in first.items() for pair in _packed(path, order, key, value)]
    alignment = int(metadata.get("general.alignment") or DEFAULT_ALIGNMENT)
    with folder_beside(path) as folder, Spool(path, folder, tensors) as spool:
        for tensor in spool.tensors:
            _check_name(tensor.entry.name, path)
            if error := refusal(tensor.entry, path):
                raise error
        size = split_max_tensors or max(1, len(spool.tensors))
        shards = [spool.tensors[start : start + size] for start in range(0, len(spool.tensors), size)] or [[]]
        written = pack_shards(folder, path, pairs, shards, order=order, alignment=alignment)
        for place in written:
            os.replace(place, path.parent / place.name)
    return tuple(path.parent / place.name for place in written)


def pack_shards(
    folder: Path,
    path: Path,
    pairs: Sequence[bytes],
    shards: Sequence[Sequence[TensorSource]],
    *,
    order: str = "<",
    alignment: int = DEFAULT_ALIGNMENT,
    progress: Progress | None = None,
) -> list[Path]:
    """Write a model in one file, or in several that name each other as gguf-split has them.

    Args:
        folder: where unfinished files may lie.
        path: what the model will be called; shards are named `STEM-00001-of-0000N.gguf` after it.
        pairs: each key with its value, as they stand in the first file.
        shards: the tensors of each file.
        order, alignment, progress: see `pack_gguf`.

    Returns:
        The files written, under the names that they are to have.
    """
    places = [folder / name for name in shard_names(path, len(shards))]
    for number, (place, shard) in enumerate(zip(places, shards, strict=True)):
        held = [*(pairs if number == 0 else _alignment(order, alignment)), *_split(order, number, shards)]
        pack_gguf(place, held, shard, order=order, alignment=alignment, progress=progress)
    return places


def shards_of(tensors: Sequence[TensorSource], most: int) -> list[list[TensorSource]]:
    """Tensors cut into files of at most so many bytes of data, in their order, as llama.cpp's converter does.

    Args:
        tensors: all of them.
        most: bytes; 0 for one file. A tensor that is larger has a file of its own.
    """
    shards: list[list[TensorSource]] = [[]]
    held = 0
    for tensor in tensors:
        if most and shards[-1] and held + tensor.entry.nbytes > most:
            shards.append([])
            held = 0
        shards[-1].append(tensor)
        held += tensor.entry.nbytes
    return shards


def pack_gguf(
    place: Path,
    pairs: Sequence[bytes],
    tensors: Sequence[TensorSource],
    *,
    order: str = "<",
    version: int = 3,
    alignment: int = DEFAULT_ALIGNMENT,
    progress: Progress | None = None,
) -> None:
    """Write one GGUF file.

    Args:
        place: where an unfinished file may lie.
        pairs: each key with its value, as they stand in the file.
        tensors: in their order; memory holds one of them, a few megabytes where the byte order is the machine's.
        order: `<` or `>`.
        version: 2 or 3.
        alignment: of each tensor's data, in bytes; the keys say it where it is not the default.
        progress: hears which tensor is being written.
    """
    with place.open("wb") as out:
        out.write(b"GGUF" + struct.pack(f"{order}IQQ", version, len(tensors), len(pairs)))
        for pair in pairs:
            out.write(pair)
        position = 0
        for entry in (tensor.entry for tensor in tensors):
            out.write(packed_info(order, entry, position))
            position += -(-entry.nbytes // alignment) * alignment
        for done, tensor in enumerate(tensors):
            if progress is not None:
                progress(tensor.entry.name, done, len(tensors))
            out.write(bytes(-out.tell() % alignment))
            for chunk in tensor.chunks() if order == NATIVE else [_swapped(tensor)]:
                out.write(chunk)
        out.write(bytes(-out.tell() % alignment if tensors else 0))


def _check_name(name: str, path: Path) -> None:
    length = len(name.encode())
    if length > MAX_NAME:
        message = f"its name has {length} bytes, GGUF holds {MAX_NAME}"
        raise UnsupportedError(message, file=path, where=f"tensor {name!r}", remedy="rename it")


def _swapped(tensor: TensorSource) -> Chunk:
    data = np.frombuffer(bytearray(b"".join(tensor.chunks())), np.uint8)
    swap_in_place(tensor.entry.dtype, data)
    return data.data


def _packed(path: Path, order: str, key: str, value: Any) -> list[bytes]:
    """A key and its value; nothing where it is absent. llama.cpp misses no empty array."""
    if value is None or (not isinstance(value, str) and isinstance(value, Sized) and not len(value)):
        return []
    try:
        return [packed_pair(order, key, value)]
    except KeyError as error:
        message = f"GGUF holds no value of type {error.args[0]}"
        raise UnsupportedError(message, file=path, where=f"key {key!r}", remedy="leave it out") from error


def shard_names(path: Path, count: int) -> list[str]:
    """The file's own name; of shards llama.cpp's (llama_split_path)."""
    if count == 1:
        return [path.name]
    return [f"{path.stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def _alignment(order: str, alignment: int) -> list[bytes]:
    """What a shard says that has none of the model's keys."""
    if alignment == DEFAULT_ALIGNMENT:
        return []
    return [packed_pair(order, "general.alignment", alignment)]


def _split(order: str, number: int, shards: Sequence[Sequence[TensorSource]]) -> list[bytes]:
    """The keys of a shard, in the types that gguf-split gives them; none of a whole file."""
    if len(shards) == 1:
        return []
    keys = {
        "split.no": np.uint16(number),
        "split.count": np.uint16(len(shards)),
        "split.tensors.count": np.int32(sum(map(len, shards))),
    }
    return [packed_pair(order, key, value) for key, value in keys.items()]


def refusal(entry: TensorEntry, path: Path | None = None) -> UnsupportedError | UsageError | None:
    """Why GGUF does not hold a tensor, whatever its name; None where it does."""
    where = f"tensor {entry.name!r}"
    if len(entry.dims) > MAX_DIMS:
        message = f"has {len(entry.dims)} dims, GGUF holds {MAX_DIMS}"
        return UnsupportedError(message, file=path, where=where, remedy="reshape it")
    if entry.dtype not in DTYPES or DTYPES[entry.dtype].code is None:
        return UnsupportedError(f"GGUF holds no {entry.dtype}", file=path, where=where, remedy="convert it")
    if not whole_rows(entry.dtype, entry.dims):
        row = entry.dims[-1] if entry.dims else 1
        message = f"its rows of {row} weights are no whole blocks of {entry.dtype}"
        return UnsupportedError(message, file=path, where=where, remedy="write it as F16, BF16 or F32")
    size = flat_bytes(entry.dtype, entry.dims)
    if entry.nbytes != size:
        message = f"{list(entry.dims)} of {entry.dtype} is {size} bytes, {entry.nbytes} were given"
        return UsageError(message, file=path, where=where, remedy="give its data whole")
    return None
