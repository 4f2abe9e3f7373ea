"""Opens GGUF v2 and v3 files of either byte order, whole or split, without reading tensor data."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.byte_order import NATIVE, swap_in_place
from rosetta.containers.container import Setting, StoredDefaults, TensorEntry
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import is_pointer, refusal_of_file
from rosetta.containers.gguf.header import GgufHeader, read_header, read_pairs
from rosetta.containers.gguf.number_keys import COUNTS, FLAGS, NUMBERS
from rosetta.containers.gguf.values import ARRAY, BOOL, LazyMetadata
from rosetta.containers.settings import GGUF_KINDS, held
from rosetta.containers.span import slice_of
from rosetta.containers.values import COUNT, TEXT
from rosetta.containers.values import NUMBERS as A_NUMBER
from rosetta.dtypes import DTYPES
from rosetta.errors import DamagedFileError, UsageError

# llama.cpp, llama_split_path
_SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MAX_LIST = 1 << 16  # items of a setting that has one for each layer


class GgufContainer(StoredDefaults):
    """An open GGUF model of one file or several.

    Args:
        path: the file that was asked for.
        shards: all its files in order, open, with their headers; `close` closes them.
    """

    kind = "gguf"
    label = "GGUF"

    def __init__(self, path: Path, shards: list[tuple[FileBytes, GgufHeader]]) -> None:
        self.path = path
        self._shards = shards
        self.file_bytes = sum(file.size for file, _ in shards)
        self.metadata: Mapping[str, Any] = shards[0][1].metadata
        architecture = self.metadata.get("general.architecture")
        if architecture is not None:
            architecture = held(shards[0][0].path, "general.architecture", architecture, TEXT)
        self.architecture: str | None = architecture
        self.settings: Mapping[str, Setting] = MappingProxyType(
            _settings(path, shards[0][1].metadata, architecture)
        )
        self.refusal = _refusal(path, self.metadata)
        self._holder: dict[str, int] = {}
        entries: dict[str, TensorEntry] = {}
        for number, (file, header) in enumerate(shards):
            for name, entry in _with_room(file, header).items():
                if name in entries:
                    where = f"tensor {name!r}"
                    raise DamagedFileError(
                        "is in another shard too", file=file.path, where=where, remedy=_SHARDS
                    )
                entries[name], self._holder[name] = entry, number
        expected = self.metadata.get("split.tensors.count")
        if len(shards) > 1 and expected not in (None, len(entries)):
            message = f"its shards hold {len(entries)} tensors, {expected} were written"
            raise DamagedFileError(message, file=path, remedy=_SHARDS)
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(entries)
        self.notes = tuple(dict.fromkeys(note for _, header in shards for note in header.notes))

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or all its shards in order."""
        return tuple(file.path for file, _ in self._shards)

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`."""
        return {file.path: min(header.places.values(), default=file.size) for file, header in self._shards}

    @property
    def header(self) -> GgufHeader:
        """The (first) file's."""
        return self._shards[0][1]

    @property
    def is_native(self) -> bool:
        """See `Container`."""
        return self.header.order == NATIVE

    def pairs(self) -> dict[str, bytes]:
        """Each key of the (first) file, and it with its value as they stand there."""
        file, header = self._shards[0]
        return read_pairs(file, header.order)

    def headers(self) -> Iterator[tuple[Path, bytes]]:
        """Each file, and what stands in it before the data."""
        for file, header in self._shards:
            yield file.path, file.bytes(0, min(header.places.values(), default=file.size))

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        entry = self.tensors[name]
        start, size = slice_of(entry, start, nbytes)
        file, header = self._shards[self._holder[name]]
        if header.order == NATIVE:
            return file.array(header.places[name] + start, size)
        block = DTYPES[entry.dtype].type_size  # turn whole blocks, then cut
        first, last = start // block * block, -(-(start + size) // block) * block
        data = file.array(header.places[name] + first, last - first)
        swap_in_place(entry.dtype, data)
        return data[start - first : start - first + size]

    def place(self, name: str) -> tuple[Path, int]:
        """See `StoredContainer.place`."""
        file, header = self._shards[self._holder[name]]
        return file.path, header.places[name]

    @property
    def key_places(self) -> Mapping[str, tuple[int, int]]:
        """For each key of the (first) file the byte where it begins, and the code of its value's type."""
        return self.header.key_places

    def flag_bytes(self) -> Iterator[tuple[str, int, bytes]]:
        """Each key of the (first) file that holds a flag or a list of them: where the flags begin, and their bytes."""
        file, order = self._shards[0][0], self.header.order
        for key, (start, kind) in self.key_places.items():
            (length,) = struct.unpack(f"{order}Q", file.bytes(start, 8))
            at, count = start + 8 + length + 4, 1  # behind the key and the code of its value's type
            if kind == ARRAY:
                kind, count = struct.unpack(f"{order}IQ", file.bytes(at, 12))
                at += 12
            if kind == BOOL:
                yield key, at, file.bytes(at, count)

    def aligned(self, alignment: int) -> GgufContainer:
        """The same open files, read as if they stated another alignment; only one of the two is to be closed.

        Raises:
            DamagedFileError: the tensors would end behind the file.
        """
        return GgufContainer(self.path, [(file, read_header(file, alignment)) for file, _ in self._shards])

    def close(self) -> None:
        for file, _ in self._shards:
            file.close()


def _with_room(file: FileBytes, header: GgufHeader) -> dict[str, TensorEntry]:
    """The entries of a file, those with another number of bytes up to the next one than they take marked so."""
    order = sorted(header.entries, key=lambda name: header.places[name])
    ends = [header.places[name] for name in order[1:]] + [file.size] * bool(order)
    entries = dict(header.entries)
    for name, end in zip(order, ends, strict=True):
        entry, room = entries[name], end - header.places[name]
        padding = room - entry.nbytes
        last = name == order[-1]
        if room > 0 and not 0 <= padding < header.alignment and not (last and padding > 0):
            entries[name] = replace(entry, room=room)
    return entries


def _refusal(path: Path, metadata: Mapping[str, Any]) -> UsageError | None:
    """Why a sound file is no model that could be run."""
    if metadata.get("general.type") != "adapter":
        return None
    remedy = f"give lora:BASE+{path}, which merges it in memory"
    return UsageError("holds an adapter, not a model", file=path, remedy=remedy)


_SHARDS = "the shards are not of one model; copy them again"


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first bytes are those of a GGUF file."""
    return head[:4] == b"GGUF"


def open(path: Path) -> GgufContainer:
    """Open a GGUF file, or all shards of a split one by the path of any of them.

    Raises:
        UsageError: a shard is missing or has been renamed.
        UnsupportedError: another version, or a tensor type that rosetta does not know.
        DamagedFileError: a file contradicts itself, or the shards each other.
    """
    shards: list[tuple[FileBytes, GgufHeader]] = []
    try:
        for shard in _opened(path):
            shards.append(shard)
        return GgufContainer(path, shards)
    except BaseException:
        for file, _ in shards:
            file.close()
        raise


def _opened(path: Path) -> Iterator[tuple[FileBytes, GgufHeader]]:
    file, header = _header_of(path)
    count = header.metadata.get("split.count", 0)
    if not COUNT.holds(count) or count <= 1:
        yield file, header
        return
    file.close()
    name = _SHARD_NAME.fullmatch(path.name)
    if name is None or int(name["count"]) != count:
        number = header.metadata.get("split.no")
        position = number + 1 if isinstance(number, int) else "?"
        message = f"is shard {position} of {count}, and its name does not say so"
        remedy = f"name the shards NAME-00001-of-{count:05d}.gguf and so on, as they were written"
        raise UsageError(message, file=path, remedy=remedy)
    paths = [
        path.with_name(f"{name['stem']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)
    ]
    for shard in paths:
        if not shard.is_file():
            message = f"shard {shard.name} is missing"
            raise UsageError(message, file=path, remedy="put all shards into one folder")
    for number, shard in enumerate(paths):
        file, header = _header_of(shard)
        yield file, header
        declared = header.metadata.get("split.count"), header.metadata.get("split.no")
        if declared != (count, number):
            message = (
                f"says it is shard {declared[1]} of {declared[0]} (from 0), its name says {number} of {count}"
            )
            raise DamagedFileError(message, file=shard, remedy=_SHARDS)


def _header_of(path: Path) -> tuple[FileBytes, GgufHeader]:
    file = FileBytes(path)
    try:
        head = bytes(file.bytes(0, min(64, file.size)))
        if not head or is_pointer(head):
            raise refusal_of_file(path, head)
        if not recognises(path, head):
            raise DamagedFileError("does not begin as a GGUF file does", file=path, remedy=_SHARDS)
        return file, read_header(file)
    except BaseException:
        file.close()
        raise


def _has_text(value: Any) -> bool:
    return any(isinstance(item, str) for item in (value if isinstance(value, list) else [value]))


def _settings(path: Path, metadata: LazyMetadata, architecture: str | None) -> dict[str, Setting]:
    """The keys of the architecture without its prefix, and what the tokenizer's keys add to them."""
    found: dict[str, Setting] = {}
    prefix = f"{architecture}."
    for name in metadata:
        key = name.removeprefix(prefix)
        if architecture is None or key == name or (metadata.count(name) or 0) > _MAX_LIST:
            continue
        value = metadata[name]
        kind = GGUF_KINDS.get(key)
        if kind is None and key in COUNTS | NUMBERS | FLAGS and _has_text(value):
            kind = A_NUMBER
        found[key] = Setting(held(path, name, value, kind) if kind else value, name)
    if "hidden_activation" in found:
        found.setdefault("activation", found["hidden_activation"])
    tokens = metadata.count("tokenizer.ggml.tokens")
    if tokens is not None:
        found.setdefault("vocab_size", Setting(tokens, "tokenizer.ggml.tokens"))
    for key in ("bos_token_id", "eos_token_id"):
        name = f"tokenizer.ggml.{key}"
        if name in metadata:
            found[key] = Setting(held(path, name, metadata[name], COUNT), name)
    return found
