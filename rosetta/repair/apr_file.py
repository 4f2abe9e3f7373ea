"""Writes a repaired `.apr` file in the strict form: sorted index, aligned data, checksums; all else as it was."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rosetta.containers.apr import layout
from rosetta.containers.apr.reader import AprContainer
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.dtypes import K_QUANTS, flat_bytes, rowwise_bytes
from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.containers.spool import Spool, folder_beside
from rosetta.errors import UnsupportedError
from rosetta.repair.changes import Change, said
from rosetta.repair.fix import Fix, Progress, Written, remade
from rosetta.repair.settings import Settings
from rosetta.repair.target import publish
from rosetta.repair.vocabulary import own_key

# What the strict form puts right, by words of the notes that opening such a file leaves.
LOOSE = (
    "not sorted",
    "not aligned",
    "no multiple of",
    "checksum",
    "the magic is",
    "COLUMN_MAJOR",
    "compressed",
)
TRAINING = "__training__"


@dataclass(frozen=True)
class Stored:
    """A tensor to be written: its index fields, and whence its bytes come.

    Args:
        name: as written.
        code: dtype code.
        dims: row-major.
        nbytes: of its data.
        place: byte of the old file where its data begins; None for one made anew.
    """

    name: str
    code: int
    dims: tuple[int, ...]
    nbytes: int
    place: int | None


class Sink:
    """A file being written, with the checksum of all that was."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.checksum = out, 0

    def write(self, parts: Iterable[bytes]) -> None:
        """Write parts, then zeros up to the alignment."""
        for part in parts:
            self.out.write(part)
            self.checksum = zlib.crc32(part, self.checksum)
        padding = bytes(-self.out.tell() % layout.ALIGNMENT)
        self.out.write(padding)
        self.checksum = zlib.crc32(padding, self.checksum)


def write_apr_copy(path: Path, fix: Fix, progress: Progress) -> Written:
    """Write the repaired copy of an `.apr` file.

    Args:
        path: the file to be written.
        fix: what is to be repaired.
        progress: hears how far the writing has come.

    Raises:
        UsageError: it cannot be written there.
        UnsupportedError: a tensor that the format does not hold.
    """
    container = fix.base.container
    assert isinstance(container, AprContainer)
    written, file = Written(), FileBytes(container.path)
    loose = [note for note in container.notes if any(word in note for word in LOOSE)]
    if loose:
        written.notes.append(f"written in the strict form, which the file was not ({'; '.join(loose)})")
    try:
        head = file.bytes(0, layout.HEADER.size)
        settings = Settings(container, fix.repaired, fix.other)
        written.unsaid = _state(settings, fix, written)
        with (
            folder_beside(path) as folder,
            Spool(path, folder, remade(fix, _holder(fix), written)) as spool,
            (folder / "model.apr").open("wb") as out,
        ):
            text = _text(settings, fix, spool, file, head)
            _write(Sink(out), head, text, _tensors(fix, spool, file, head), spool, file, progress)
            out.close()
            publish(folder / "model.apr", path)
    finally:
        file.close()
    return written


def _state(settings: Settings, fix: Fix, written: Written) -> list[str]:
    unsaid = settings.write(fix.settings)
    written.changes += settings.changes
    for key, value in fix.vocabulary.items():
        own = own_key(key)
        plain = value.tolist() if hasattr(value, "tolist") else value
        if settings.metadata.get(own) != plain:
            written.changes.append(Change(own, said(settings.metadata.get(own)), said(plain)))
            settings.metadata[own] = plain
    return unsaid


def _text(settings: Settings, fix: Fix, spool: Spool, file: FileBytes, head: bytes) -> bytes:
    """The metadata: as it stands where nothing in it changes, else written anew in the same order."""
    _, _, _, _, _, at, size, *_ = layout.HEADER.unpack(head)
    shapes = settings.metadata.get("tensor_shapes")  # a copy of the index that some writers add
    if isinstance(shapes, dict):
        shapes.update({tensor.entry.name: list(tensor.entry.dims) for tensor in spool.tensors})
        for name in fix.layout.dropped:
            shapes.pop(name, None)
    if settings.metadata == dict(fix.base.container.metadata):
        return file.bytes(at, size)
    try:
        return json.dumps(settings.metadata, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say in ASCII only
        return json.dumps(settings.metadata, separators=(",", ":")).encode()


def _holder(fix: Fix) -> Any:
    entries = fix.base.container.tensors.values()
    vectors = {entry.dtype for entry in entries if len(entry.dims) < 2}
    used = {entry.dtype for entry in entries if len(entry.dims) > 1} | set(layout.SAFE_CODES)

    def holds(tensor: TensorInput, foreign: bool) -> bool:
        if tensor.dtype not in layout.ALL_CODES or len(tensor.dims) > layout.MAX_DIMS:
            return False
        sizes = {flat_bytes(tensor.dtype, tensor.dims)}
        sizes |= {rowwise_bytes(tensor.dtype, tensor.dims)} if tensor.dtype in K_QUANTS else set()
        if tensor.data.nbytes not in sizes:
            return False
        return not foreign or tensor.dtype in (used if len(tensor.dims) > 1 else vectors | {"F32"})

    return holds


def _tensors(fix: Fix, spool: Spool, file: FileBytes, head: bytes) -> list[Stored]:
    """All tensors in the order of their data, those made anew in their old places, added ones behind."""
    assert isinstance(fix.base.container, AprContainer)
    codes = {stored.name: stored for stored in _index(fix.base.container, file, head)}
    anew = {tensor.entry.name: tensor.entry for tensor in spool.tensors}
    tensors = []
    for stored in sorted(codes.values(), key=lambda stored: stored.place or 0):
        if stored.name in fix.layout.dropped:
            continue
        tensors.append(_made(anew.pop(stored.name), codes) if stored.name in anew else stored)
    return tensors + [_made(entry, codes) for entry in anew.values()]


def _made(entry: TensorEntry, codes: Mapping[str, Stored]) -> Stored:
    name = entry.name.encode()
    if len(name) > layout.MAX_NAME:
        message = f"its name has {len(name)} bytes, .apr holds {layout.MAX_NAME}"
        raise UnsupportedError(message, where=f"tensor {entry.name!r}", remedy="rename it")
    old, code = codes.get(entry.name), layout.ALL_CODES[entry.dtype]
    if old is not None and entry.dtype in layout.CODES.get(old.code, ()):
        code = old.code  # the writer's own word for this dtype
    return Stored(entry.name, code, entry.dims, entry.nbytes, None)


def _index(container: AprContainer, file: FileBytes, head: bytes) -> Iterator[Stored]:
    """The index as it stands, training state included; one in JSON has no codes, and gets those of its dtypes."""
    _, _, _, _, count, _, _, index_at, data_at, _, _ = layout.HEADER.unpack(head)
    if file.bytes(index_at, min(2, data_at - index_at)) in (b"[{", b"[]"):
        for entry in container.tensors.values():
            place = container.place(entry.name)
            yield Stored(entry.name, layout.ALL_CODES[entry.dtype], entry.dims, entry.nbytes, place)
        return
    cursor = Cursor(file, index_at, data_at, "the index")
    for _ in range(count):
        (length,) = struct.unpack("<H", cursor.take(2))
        name = cursor.take(length).decode(errors="replace")
        code, ndim = cursor.take(2)
        *dims, offset, nbytes = struct.unpack(f"<{ndim + 2}Q", cursor.take(8 * ndim + 16))
        file.require(data_at + offset if nbytes else 0, nbytes, f"tensor {name!r}")
        yield Stored(name, code, tuple(dims), nbytes, data_at + offset)


def _write(
    sink: Sink,
    head: bytes,
    text: bytes,
    tensors: list[Stored],
    spool: Spool,
    file: FileBytes,
    progress: Progress,
) -> None:
    places, position = {}, 0
    for tensor in tensors:
        places[tensor.name] = position
        position += layout.padded(tensor.nbytes)
    index = b"".join(_entry(t, places[t.name]) for t in sorted(tensors, key=lambda t: t.name.encode()))
    _, major, minor, flags, _, _, _, _, _, _, reserved = layout.HEADER.unpack(head)
    flags = flags & ~(layout.LZ4 | layout.ZSTD | layout.COLUMN_MAJOR) | layout.ROW_MAJOR
    index_at = layout.HEADER.size + layout.padded(len(text))
    data_at = index_at + layout.padded(len(index))
    fields = (
        layout.MAGIC,
        major,
        minor,
        flags,
        len(tensors),
        layout.HEADER.size,
        len(text),
        index_at,
        data_at,
    )
    bare = layout.HEADER.pack(*fields, 0, reserved)
    sink.write([layout.HEADER.pack(*fields, layout.header_checksum(bare), reserved)])
    sink.write([text])
    sink.write([index])
    made = {tensor.entry.name: tensor for tensor in spool.tensors}
    for done, tensor in enumerate(tensors):
        progress(tensor.name, done, len(tensors))
        if tensor.place is None:
            sink.write(spool.chunks(made[tensor.name]))
        else:
            sink.write([file.bytes(tensor.place, tensor.nbytes)] if tensor.nbytes else [])
    sink.out.write(struct.pack("<I", sink.checksum))


def _entry(tensor: Stored, position: int) -> bytes:
    name = tensor.name.encode()
    start = struct.pack("<H", len(name)) + name + bytes((tensor.code, len(tensor.dims)))
    return start + struct.pack(f"<{len(tensor.dims) + 2}Q", *tensor.dims, position, tensor.nbytes)
