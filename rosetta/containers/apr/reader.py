"""Opens `.apr` v2 files, tolerant of every writer seen in the wild; what it tolerated it notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.apr import layout
from rosetta.containers.apr.dialects import MAGICS, require_v2
from rosetta.containers.apr.index import read_declared, read_index
from rosetta.containers.apr.settings import apr_architecture, apr_settings
from rosetta.containers.container import Setting, StoredDefaults, TensorEntry
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.json_text import json_object
from rosetta.containers.span import slice_of
from rosetta.containers.spool import TensorSource, pieces
from rosetta.errors import DamagedFileError, UnsupportedError

_MAX_NOTES = 20  # a hostile file must not make a book of them


@dataclass(frozen=True)
class Header:
    """The 64-byte header; offsets are bytes from the start of the file."""

    magic: bytes
    version: tuple[int, int]
    flags: int
    tensor_count: int
    metadata_at: int
    metadata_size: int
    index_at: int
    data_at: int
    checksum: int
    reserved: bytes


class AprContainer(StoredDefaults):
    """An open `.apr` v2 file.

    Args:
        path: the file.
        file: the same, open; it is closed by `close`.

    Attributes:
        header: the file's, as it stands.
        transposed_linears: of an entrenar checkpoint: `*_proj.weight` and `lm_head.weight` are to be transposed.
    """

    kind = "apr"
    label = "APR"

    def __init__(self, path: Path, file: FileBytes) -> None:
        self.path, self.file_bytes, self._file = path, file.size, file
        self._notes: list[str] = []
        self.header = header = self._read_header()
        metadata = self._read_metadata(header)
        self._refuse_sharded(header, metadata)
        self._data_at = header.data_at
        self._places, entries = read_index(
            file, header.index_at, header.data_at, header.tensor_count, self._note
        )
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(entries)
        self.metadata: Mapping[str, Any] = MappingProxyType(metadata)
        self.settings: Mapping[str, Setting] = MappingProxyType(apr_settings(path, metadata, self._note))
        self.architecture = apr_architecture(path, metadata)
        self.transposed_linears = metadata.get("format") == "entrenar-checkpoint"
        self.column_major = bool(header.flags & layout.COLUMN_MAJOR)
        self._note_layout(header)
        self.notes = tuple(self._notes)

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        offset, size = slice_of(self.tensors[name], start, nbytes)
        return self._file.array(self._data_at + self._places[name] + offset, size)

    def place(self, name: str) -> tuple[Path, int]:
        """See `StoredContainer.place`."""
        return self.path, self._data_at + self._places[name]

    def metadata_text(self) -> bytes:
        """The metadata as it stands."""
        return self._file.bytes(self.header.metadata_at, self.header.metadata_size)

    def headers(self) -> Iterator[tuple[Path, bytes]]:
        """The file, and what stands in it before the data."""
        yield self.path, self._file.bytes(0, self._data_at)

    def stored(self) -> list[tuple[TensorSource, int]]:
        """All that a copy holds, in the order of the data: every tensor, training state too, and its dtype code.

        Raises:
            DamagedFileError: training state lies outside the file.
        """
        header, found = self.header, []
        index = read_declared(self._file, header.index_at, header.data_at, header.tensor_count)
        for declared in sorted(index, key=lambda declared: declared.offset):
            entry, code = self.tensors.get(declared.name), declared.code
            if code is None:  # an index of JSON
                if entry is None:
                    continue
                code = layout.ALL_CODES[entry.dtype]
            entry = entry or TensorEntry(declared.name, declared.spelled, declared.dims, declared.nbytes)
            start = header.data_at + declared.offset if declared.nbytes else 0
            self._file.require(start, declared.nbytes, f"tensor {declared.name!r}")
            found.append(
                (TensorSource(entry, partial(pieces, partial(self._bytes, start), entry.nbytes)), code)
            )
        return found

    def _bytes(self, base: int, start: int, nbytes: int) -> bytes:
        return self._file.bytes(base + start, nbytes)

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`."""
        return {self.path: self._data_at}

    def close(self) -> None:
        self._file.close()

    def _note(self, sentence: str) -> None:
        if sentence not in self._notes and len(self._notes) < _MAX_NOTES:
            self._notes.append(sentence)

    def _read_header(self) -> Header:
        head = self._file.bytes(0, min(layout.HEADER.size, self._file.size))
        require_v2(self.path, head)
        magic, major, minor, flags, count, metadata_at, size, *rest = layout.HEADER.unpack(head)
        index_at, data_at, checksum, reserved = rest
        version = (major, minor)
        header = Header(
            magic, version, flags, count, metadata_at, size, index_at, data_at, checksum, reserved
        )
        if flags & layout.ENCRYPTED:
            remedy = "decrypt it with the program that wrote it"
            raise UnsupportedError("is encrypted (flag 0x0004)", file=self.path, remedy=remedy)
        if checksum == 0:
            self._note("the header has no checksum")
        elif checksum != (computed := layout.header_checksum(head)):
            self._note(f"the header's checksum is {checksum:#010x}, its bytes give {computed:#010x}")
        return header

    def _read_metadata(self, header: Header) -> dict[str, Any]:
        self._refuse_compressed(header)
        if header.metadata_at < layout.HEADER.size:
            remedy = "the file is damaged; copy it again"
            raise DamagedFileError("the metadata begins inside the header", file=self.path, remedy=remedy)
        self._file.require(header.metadata_at, header.metadata_size, "the metadata")
        if header.metadata_size > layout.MAX_METADATA:
            message = f"has {header.metadata_size:,} bytes of metadata, rosetta reads {layout.MAX_METADATA:,}"
            raise UnsupportedError(message, file=self.path, remedy="write it without the chat template")
        return json_object(
            self.path,
            self.metadata_text(),
            "the metadata",
            repeated=lambda key: self._note(f"the metadata has the key {key!r} twice"),
        )

    def _refuse_compressed(self, header: Header) -> None:
        """A compressed file is one blob after the header; aprender's writer flags plain files too."""
        if not header.flags & (layout.LZ4 | layout.ZSTD):
            return
        name = "LZ4" if header.flags & layout.LZ4 else "ZSTD"
        if header.metadata_at < self.file_bytes and self._file.bytes(header.metadata_at, 1) == b"{":
            self._note(f"the header says {name}, and nothing is compressed")
            return
        remedy = "save it again without compression"
        raise UnsupportedError(f"its contents are compressed with {name}", file=self.path, remedy=remedy)

    def _refuse_sharded(self, header: Header, metadata: Mapping[str, Any]) -> None:
        sharding = metadata.get("sharding")
        count = sharding.get("shard_count") if isinstance(sharding, dict) else None
        if header.flags & layout.SHARDED or (isinstance(count, int) and count > 1):
            part = f"one of {count} shards" if isinstance(count, int) else "a shard"
            remedy = "import the model into one .apr file"
            raise UnsupportedError(f"is {part}, not a whole model", file=self.path, remedy=remedy)

    def _note_layout(self, header: Header) -> None:
        if header.magic != layout.MAGIC:
            self._note(f"the magic is {header.magic.decode()}, of an early .apr v2")
        if self.column_major:
            self._note("the header says COLUMN_MAJOR: weights lie [in, out], which no loader accepts")
        if header.data_at % layout.ALIGNMENT:
            self._note(
                f"the data begins at byte {header.data_at:,}, which is no multiple of {layout.ALIGNMENT}"
            )
        end = max((self._places[name] + entry.nbytes for name, entry in self.tensors.items()), default=0)
        if self.file_bytes - header.data_at not in (end + 4, layout.padded(end) + 4):
            self._note("the file has no checksum at its end")


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first bytes are those of an `.apr` file of any dialect."""
    return head[:4] in MAGICS


def open(path: Path) -> AprContainer:
    """Open an `.apr` v2 file: metadata and index, no tensor data.

    Raises:
        UnsupportedError: another dialect, encrypted, compressed or sharded, or a dtype code of no loader.
        DamagedFileError: the file contradicts itself.
    """
    file = FileBytes(path)
    try:
        return AprContainer(path, file)
    except BaseException:
        file.close()
        raise
