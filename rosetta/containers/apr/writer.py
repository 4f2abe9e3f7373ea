"""Writes `.apr` v2 files that obey every rule of the strict reader: sorted, aligned, checksummed."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

from rosetta.containers.apr import layout
from rosetta.containers.apr.keys import CANONICAL_SPELLING, LICENCE_KEYS, TYPED_KEYS
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.dtypes import BLOCKS, K_QUANTS, QUANTISED, flat_bytes, rowwise_bytes, whole_rows
from rosetta.containers.spool import Spool, Spooled, folder_beside
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
    encoded = _encoded_metadata(path, metadata)
    with folder_beside(path) as folder, Spool(path, folder, tensors) as spool:
        ordered = sorted(spool.tensors, key=lambda tensor: tensor.entry.name.encode())
        for tensor in ordered:
            _check(path, tensor.entry, codes)
        unfinished = folder / "model.apr"
        with unfinished.open("wb") as file:
            _write(file, encoded, "tokenizer.vocabulary" in metadata, ordered, spool)
        os.replace(unfinished, path)


def _write(file: IO[bytes], metadata: bytes, has_vocab: bool, ordered: list[Spooled], spool: Spool) -> None:
    index, position = bytearray(), 0
    for tensor in ordered:
        index += _index_entry(tensor.entry, position)
        position += layout.padded(tensor.entry.nbytes)
    index_at = 64 + layout.padded(len(metadata))
    flags = layout.ROW_MAJOR | (layout.HAS_VOCAB if has_vocab else 0)
    if any(tensor.entry.dtype in QUANTISED for tensor in ordered):
        flags |= layout.QUANTIZED
    fields = (layout.MAGIC, 2, 0, flags, len(ordered), 64, len(metadata), index_at)
    data_at = index_at + layout.padded(len(index))
    bare = layout.HEADER.pack(*fields, data_at, 0, b"")
    header = layout.HEADER.pack(*fields, data_at, layout.header_checksum(bare), b"")
    checksum = 0
    for part in (header, metadata, bytes(index)):
        checksum = _write_padded(file, [part], len(part), checksum)
    for tensor in ordered:
        checksum = _write_padded(file, spool.chunks(tensor), tensor.entry.nbytes, checksum)
    file.write(struct.pack("<I", checksum))


def _write_padded(file: IO[bytes], parts: Iterable[bytes], size: int, checksum: int) -> int:
    """Write the parts and zeros up to the alignment; returns the running checksum."""
    for part in chain(parts, [bytes(layout.padded(size) - size)]):
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    return checksum


def _index_entry(entry: TensorEntry, position: int) -> bytes:
    name = entry.name.encode()
    code, dims = layout.ALL_CODES[entry.dtype], entry.dims
    packed_dims = struct.pack(f"<{len(dims)}Q", *dims)
    start = struct.pack("<H", len(name)) + name + bytes((code, len(dims)))
    return start + packed_dims + struct.pack("<QQ", position, entry.nbytes)


def _check(path: Path, entry: TensorEntry, codes: Codes) -> None:
    """Raise unless the format holds the tensor, and each loader where `codes` is `safe`."""
    where = f"tensor {entry.name!r}"
    if not 0 < len(entry.name.encode()) <= layout.MAX_NAME:
        message = f"its name has {len(entry.name.encode())} bytes, .apr holds 1 to {layout.MAX_NAME}"
        raise UnsupportedError(message, file=path, where=where, remedy="rename it")
    if len(entry.dims) > layout.MAX_DIMS:
        message = f"has {len(entry.dims)} dims, .apr holds {layout.MAX_DIMS}"
        raise UnsupportedError(message, file=path, where=where, remedy="reshape it")
    if entry.dtype not in layout.ALL_CODES:
        remedy = f"write it as one of {', '.join(layout.SAFE_CODES)}"
        raise UnsupportedError(f".apr holds no {entry.dtype}", file=path, where=where, remedy=remedy)
    sizes = {flat_bytes(entry.dtype, entry.dims)}
    if codes == "all":
        sizes |= {0} | ({rowwise_bytes(entry.dtype, entry.dims)} if entry.dtype in K_QUANTS else set())
    else:
        _check_safe(path, entry, where)
    if entry.nbytes not in sizes:
        message = f"{list(entry.dims)} of {entry.dtype} is {max(sizes)} bytes, {entry.nbytes} were given"
        raise UsageError(message, file=path, where=where, remedy="give its data whole")


def _check_safe(path: Path, entry: TensorEntry, where: str) -> None:
    problem = None
    if entry.dtype not in layout.SAFE_CODES:
        problem = (
            f"{entry.dtype} is not read alike by every .apr loader",
            f"one of {', '.join(layout.SAFE_CODES)}",
        )
    elif len(entry.dims) < 2 and entry.dtype != "F32":
        problem = f"a vector of {entry.dtype} is not read by every .apr loader", "F32"
    elif entry.dtype in BLOCKS and not whole_rows(entry.dtype, entry.dims):
        problem = (
            f"its rows of {entry.dims[-1]} weights are no whole blocks of {entry.dtype}",
            "F16, BF16 or F32",
        )
    if problem:
        remedy = f"write it as {problem[1]}, or ask for all codes"
        raise UnsupportedError(problem[0], file=path, where=where, remedy=remedy)


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
