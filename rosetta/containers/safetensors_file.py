"""One safetensors file: its header validated in full before any byte of data is used, and its only writer."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from rosetta.containers.container import TensorEntry
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import is_pointer, pointer_instead_of
from rosetta.containers.json_text import json_object
from rosetta.containers.spool import TensorSource
from rosetta.containers.values import COUNT
from rosetta.dtypes import DTYPES
from rosetta.errors import DamagedFileError, UnsupportedError

# What files under a wrong name begin with: what they are, and what to do.
_OTHERS = {
    b"GGUF": ("a GGUF file", "give it the ending .gguf, and compare it by itself"),
    b"PK\x03\x04": ("an archive of torch.save", "save it again with safetensors"),
    b"<!doctype": ("a web page", "download the file again, signed in where that is asked for"),
    b"<!DOCTYPE": ("a web page", "download the file again, signed in where that is asked for"),
    b"<html": ("a web page", "download the file again, signed in where that is asked for"),
}
_MAX_HEADER = 100_000_000  # bytes; safetensors, MAX_HEADER_SIZE
METADATA = "__metadata__"
_ALIGNMENT = 8  # of the header, as the safetensors library writes it
_REMEDY = "the file is damaged; copy it again"

_DTYPES = frozenset(
    {
        *("BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ"),
        *("F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"),
    }
)
"""What the format defines; safetensors, enum Dtype. The names are the ones that rosetta uses, too."""


def read_header(file: FileBytes) -> tuple[dict[str, TensorEntry], dict[str, int]]:
    """Read and check a safetensors header.

    Returns:
        the tensors in the order of their data, and for each the byte of the file where its data begins.

    Raises:
        DamagedFileError: the header breaks a rule of the format.
        UnsupportedError: a dtype that the format did not have when this was written.
    """
    if file.size < 8:
        raise DamagedFileError(
            f"has {file.size} bytes, no safetensors header", file=file.path, remedy=_REMEDY
        )
    if is_pointer(file.bytes(0, min(file.size, 64))):
        raise pointer_instead_of("the weights", file.path)
    (length,) = struct.unpack("<Q", file.bytes(0, 8))
    found = next(
        (what for start, what in _OTHERS.items() if file.bytes(0, min(len(start), file.size)) == start), None
    )
    if found is not None and file.bytes(8, min(1, file.size - 8)) != b"{":
        raise DamagedFileError(f"is {found[0]}, not a safetensors file", file=file.path, remedy=found[1])
    if length > _MAX_HEADER:
        message = f"the header is said to have {length:,} bytes, the format allows {_MAX_HEADER:,}"
        raise DamagedFileError(message, file=file.path, where="byte 0", remedy=_REMEDY)
    file.require(8, length, "the header")
    repeated: list[str] = []
    table = json_object(file.path, file.bytes(8, length), "the header", repeated=repeated.append)
    if repeated:
        raise DamagedFileError(
            "is in the header twice", file=file.path, where=f"key {repeated[0]!r}", remedy=_REMEDY
        )
    metadata = table.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        message = "is no object of texts, and the safetensors library refuses the file"
        raise DamagedFileError(message, file=file.path, where=f"key {METADATA!r}", remedy=_REMEDY)
    data_at = 8 + length
    infos = sorted(
        (_checked(file, name, info, data_at) for name, info in table.items()), key=lambda info: info[1:]
    )
    end = 0
    for entry, start, stop in infos:
        if start != end:
            place = f"its data begins at byte {start:,} of the data"
            gap, overlap = (
                f"{start - end:,} bytes after the one before",
                f"and the one before ends at {end:,}",
            )
            message = f"{place}, {overlap if start < end else gap}"
            raise DamagedFileError(message, file=file.path, where=f"tensor {entry.name!r}", remedy=_REMEDY)
        end = stop
    if data_at + end != file.size:
        message = f"the tensors end at byte {data_at + end:,}, the file at {file.size:,}"
        raise DamagedFileError(message, file=file.path, remedy=_REMEDY)
    return {entry.name: entry for entry, *_ in infos}, {
        entry.name: data_at + start for entry, start, _ in infos
    }


def read_table(file: FileBytes) -> dict[str, Any]:
    """The JSON object of a header that `read_header` has found sound."""
    (length,) = struct.unpack("<Q", file.bytes(0, 8))
    return json_object(file.path, file.bytes(8, length), "the header")


def read_metadata(file: FileBytes) -> dict[str, str]:
    """The free-form texts of such a header."""
    metadata = read_table(file).get(METADATA, {})
    return {k: v for k, v in metadata.items() if isinstance(v, str)} if isinstance(metadata, dict) else {}


def _checked(file: FileBytes, name: str, info: Any, data_at: int) -> tuple[TensorEntry, int, int]:
    """The entry, and where its data begins and ends within the data."""
    where = f"tensor {name!r}"
    fields = info if isinstance(info, dict) else {}
    dtype, dims, span = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    counts: list[Any] = [None]
    if isinstance(dims, list) and isinstance(span, list) and len(span) == 2:
        counts = [*dims, *span]
    if not isinstance(dtype, str) or not all(map(COUNT.holds, counts)):
        message = "its dtype, shape or data_offsets are not as the format has them"
        raise DamagedFileError(message, file=file.path, where=where, remedy=_REMEDY)
    if dtype not in _DTYPES:
        remedy = "save the model in another dtype"
        raise UnsupportedError(f"has the dtype {dtype!r:.40}", file=file.path, where=where, remedy=remedy)
    *shape, start, stop = counts
    block, weights = DTYPES[dtype], prod(shape)
    if start > stop or weights * block.type_size != (stop - start) * block.block_size:
        taken = weights * block.type_size / block.block_size
        message = f"dims {shape} of {dtype} take {taken:,.0f} bytes, data_offsets are {span}"
        raise DamagedFileError(message, file=file.path, where=where, remedy=_REMEDY)
    file.require(data_at + start, stop - start, where)
    return TensorEntry(name, dtype, tuple(shape), stop - start), start, stop


def write_safetensors(
    place: Path, tensors: Iterable[TensorSource], metadata: Mapping[str, Any] | None
) -> None:
    """Write one safetensors file; memory holds a few megabytes of data.

    Args:
        place: where an unfinished file may lie.
        tensors: in the order of their data; those of wide numbers go first where one would else begin at no
            multiple of its numbers' size, which torch needs to view it.
        metadata: the free-form part of the header; None for none.
    """
    tensors = list(tensors)
    if not _aligned([tensor.entry for tensor in tensors]):
        tensors.sort(key=lambda tensor: -_width(tensor.entry))
    header: dict[str, Any] = {} if metadata is None else {METADATA: metadata}
    position = 0
    for entry in (tensor.entry for tensor in tensors):
        offsets = [position, position + entry.nbytes]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.dims), "data_offsets": offsets}
        position += entry.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with place.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            for chunk in tensor.chunks():
                out.write(chunk)


def _aligned(entries: Sequence[TensorEntry]) -> bool:
    position = 0
    for entry in entries:
        if position % _width(entry):
            return False
        position += entry.nbytes
    return True


def _width(entry: TensorEntry) -> int:
    """Bytes of one number, or of a block of narrow ones."""
    return DTYPES[entry.dtype].type_size
