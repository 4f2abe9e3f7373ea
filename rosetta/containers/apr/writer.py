"""Writes `.apr` v2 files that obey every rule of the strict reader: sorted, aligned, checksummed.

`write_apr` makes a new file out of keys and tensors; `pack_apr` lays out any, a copy of an old one too.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

from rosetta.containers.apr import layout
from rosetta.containers.apr.index import packed_entry
from rosetta.containers.apr.keys import CANONICAL_SPELLING, LICENCE_KEYS, TYPED_KEYS
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.spool import Chunk, Progress, Spool, TensorSource
from rosetta.containers.unfinished import unfinished
from rosetta.dtypes import DTYPES, flat_bytes, rowwise_bytes, whole_rows
from rosetta.errors import UnsupportedError, UsageError

Codes = Literal["safe", "all"]


def write_apr(
    path: str | Path, metadata: Mapping[str, Any], tensors: Iterable[TensorInput], *, codes: Codes = "safe"
) -> None:
    """Write one `.apr` v2 file; it appears under its name only when it is complete.

    Args:
        path: the file; an existing one is replaced.
        metadata: top-level keys under their canonical spelling (`hidden_size`, `tokenizer.vocabulary`);
            None means absent. The three licence keys are added as null where they are missing.
        tensors: consumed once, so that a generator needs memory for one tensor only.
        codes: `safe` writes only what every loader reads alike (F32, F16, BF16, Q4_K, Q6_K, whole-block rows,
            F32 vectors, no placeholders); `all` writes whatever some loader reads.

    Raises:
        UnsupportedError: a dtype, name or size that the format (or `codes`) does not hold.
        UsageError: metadata that the strict reader refuses, a tensor given twice, bytes that do not fit
            the dims.
    """
    path = Path(path)
    text = _encoded_metadata(path, metadata)
    with unfinished(path, replace=True) as place, Spool(path, place.parent, tensors) as spool:
        ordered = sorted(spool.tensors, key=lambda tensor: tensor.entry.name.encode())
        for tensor in ordered:
            check_name(tensor.entry.name, path)
            if error := refusal(tensor.entry, codes, path):
                raise error
        flags = layout.HAS_VOCAB if "tokenizer.vocabulary" in metadata else 0
        if any(DTYPES[tensor.entry.dtype].block_size != 1 for tensor in ordered):
            flags |= layout.QUANTIZED
        pack_apr(place, text, ordered, flags=flags)


def pack_apr(
    place: Path,
    text: bytes,
    tensors: Sequence[TensorSource],
    *,
    flags: int = 0,
    version: tuple[int, int] = (2, 0),
    reserved: bytes = b"",
    codes: Mapping[str, int] = MappingProxyType({}),
    progress: Progress | None = None,
) -> None:
    """Write a file in the strict form: index sorted by name, all parts aligned, checksums at both ends.

    Args:
        place: where an unfinished file may lie.
        text: the metadata.
        tensors: in the order of their data; memory holds a few megabytes of it.
        flags: of the header; what they say of layout and compression is put right.
        version: major and minor, of the header.
        reserved: the end of the header, up to 20 bytes.
        codes: dtype codes by tensor, where they are not those of `ALL_CODES`.
        progress: hears which tensor is being written.
    """
    index, position = {}, 0
    for entry in (tensor.entry for tensor in tensors):
        code = codes[entry.name] if entry.name in codes else layout.ALL_CODES[entry.dtype]
        index[entry.name.encode()] = packed_entry(entry, code, position)
        position += layout.padded(entry.nbytes)
    packed_index = b"".join(index[name] for name in sorted(index))
    index_at = layout.HEADER.size + layout.padded(len(text))
    data_at = index_at + layout.padded(len(packed_index))
    flags = flags & ~(layout.LZ4 | layout.ZSTD | layout.COLUMN_MAJOR) | layout.ROW_MAJOR
    start = (layout.MAGIC, *version, flags, len(tensors), layout.HEADER.size, len(text), index_at, data_at)
    checksum = layout.header_checksum(layout.HEADER.pack(*start, 0, reserved))
    with place.open("wb") as out:
        sink = _Sink(out)
        for part in (layout.HEADER.pack(*start, checksum, reserved), text, packed_index):
            sink.write([part])
        for done, tensor in enumerate(tensors):
            if progress is not None:
                progress(tensor.entry.name, done, len(tensors))
            sink.write(tensor.chunks())
        out.write(struct.pack("<I", sink.checksum))


class _Sink:
    """A file being written, with the checksum of all that was."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.checksum = out, 0

    def write(self, chunks: Iterable[Chunk]) -> None:
        """Write a part, then zeros up to the alignment."""
        for chunk in chunks:
            self._put(chunk)
        self._put(bytes(-self.out.tell() % layout.ALIGNMENT))

    def _put(self, chunk: Chunk) -> None:
        self.out.write(chunk)
        self.checksum = zlib.crc32(chunk, self.checksum)


def check_name(name: str, path: Path) -> None:
    """Raise unless the format holds a tensor of that name.

    Raises:
        UnsupportedError: it is too long, or empty.
    """
    length = len(name.encode())
    if not 0 < length <= layout.MAX_NAME:
        message = f"its name has {length} bytes, .apr holds 1 to {layout.MAX_NAME}"
        raise UnsupportedError(message, file=path, where=f"tensor {name!r}", remedy="rename it")


def refusal(
    entry: TensorEntry, codes: Codes, path: Path | None = None
) -> UnsupportedError | UsageError | None:
    """Why the format (with `safe` each loader) does not hold a tensor, whatever its name; None where it does."""
    where = f"tensor {entry.name!r}"
    if len(entry.dims) > layout.MAX_DIMS:
        message = f"has {len(entry.dims)} dims, .apr holds {layout.MAX_DIMS}"
        return UnsupportedError(message, file=path, where=where, remedy="reshape it")
    if entry.dtype not in layout.ALL_CODES:
        remedy = f"write it as one of {', '.join(layout.SAFE_CODES)}"
        return UnsupportedError(f".apr holds no {entry.dtype}", file=path, where=where, remedy=remedy)
    sizes = {flat_bytes(entry.dtype, entry.dims)}
    if codes == "all":
        sizes.add(0)  # a placeholder
        if entry.dtype in layout.ROWS_FILLED_UP:
            sizes.add(rowwise_bytes(entry.dtype, entry.dims))
    elif problem := _unsafe(entry):
        remedy = f"write it as {problem[1]}, or ask for all codes"
        return UnsupportedError(problem[0], file=path, where=where, remedy=remedy)
    if entry.nbytes not in sizes:
        message = f"{list(entry.dims)} of {entry.dtype} is {max(sizes)} bytes, {entry.nbytes} were given"
        return UsageError(message, file=path, where=where, remedy="give its data whole")
    return None


def _unsafe(entry: TensorEntry) -> tuple[str, str] | None:
    """Why not every loader reads a tensor, and what to write instead; None where each does."""
    if entry.dtype not in layout.SAFE_CODES:
        return (
            f"{entry.dtype} is not read alike by every .apr loader",
            f"one of {', '.join(layout.SAFE_CODES)}",
        )
    if len(entry.dims) < 2 and entry.dtype != "F32":
        return f"a vector of {entry.dtype} is not read by every .apr loader", "F32"
    if not whole_rows(entry.dtype, entry.dims):
        message = f"its rows of {entry.dims[-1]} weights are no whole blocks of {entry.dtype}"
        return message, "F16, BF16 or F32"
    return None


def _encoded_metadata(path: Path, metadata: Mapping[str, Any]) -> bytes:
    """The metadata as compact JSON, checked by the strict reader's rules."""
    for key, value in metadata.items():
        if key in CANONICAL_SPELLING:
            remedy = f"write {CANONICAL_SPELLING[key]!r}"
            raise UsageError(
                "is an alias that some loaders refuse", file=path, where=f"key {key!r}", remedy=remedy
            )
        wanted = TYPED_KEYS.get(key)
        if value is not None and wanted is not None and not wanted.holds(value):
            raise UsageError(f"is {value!r:.60}, .apr wants {wanted.noun}", file=path, where=f"key {key!r}")
    kept = {key: value for key, value in metadata.items() if value is not None}
    kept |= {key: metadata.get(key) for key in LICENCE_KEYS}
    try:
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"metadata cannot be written as JSON: {error}", file=path) from error
    if len(text) > layout.MAX_METADATA:
        message = f"metadata of {len(text)} bytes, .apr holds {layout.MAX_METADATA}"
        raise UnsupportedError(message, file=path, remedy="leave out the tokenizer or the chat template")
    return text
