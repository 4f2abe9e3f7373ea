"""F109: the checksum at the end of an `.apr` file is not that of the file."""

import struct
import zlib
from collections.abc import Iterator

from rosetta.containers.file_bytes import FileBytes
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F109",
    "file-checksum",
    "error",
    what="The checksum at the end of an .apr file is missing, or is not that of the bytes before it.",
    why="Weights were changed after the file was written: by damage on the way, or by a tool that patches tensors in "
    "place.",
    fix="Copy the file again, and compare it with its source; a tool that patches must work the CRC-32 out again.",
    reads_values=True,
)
_CHUNK = 1 << 24  # bytes


def faults(subject: Subject) -> Iterator[Fault]:
    """A file whose last four bytes are not the CRC-32 of all others."""
    if subject.apr is None:
        return
    file = FileBytes(subject.path)
    end, checksum = file.size - 4, 0
    for start in range(0, end, _CHUNK):
        checksum = zlib.crc32(file.array(start, min(_CHUNK, end - start)).data, checksum)
    (stated,) = struct.unpack("<I", file.bytes(end, 4))
    file.close()
    if stated != checksum:
        yield Fault(
            f"its last bytes say the checksum {stated:#010x}, all others give {checksum:#010x}", byte=end
        )
