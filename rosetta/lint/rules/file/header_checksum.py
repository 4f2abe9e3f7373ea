"""F108: the checksum of an `.apr` header is not that of its bytes."""

from collections.abc import Iterator

from rosetta.containers.apr import layout
from rosetta.containers.file_bytes import FileBytes
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F108",
    "header-checksum",
    "error",
    what="The checksum in an .apr header is missing, or is not that of the header's bytes.",
    why="The header was changed after it was written, by a tool that does not know of the checksum or by damage. "
    "aprender's strict reader refuses the file.",
    fix="Copy the file again; a tool that edits headers must work the CRC-32 out again.",
)
_AT = 40  # byte of the header


def faults(subject: Subject) -> Iterator[Fault]:
    """A header without its checksum, or with another one."""
    if subject.apr is None:
        return
    stated = subject.apr.header.checksum
    file = FileBytes(subject.path)
    computed = layout.header_checksum(file.bytes(0, layout.HEADER.size))
    file.close()
    if stated == 0:
        yield Fault("the header has no checksum", byte=_AT)
    elif stated != computed:
        yield Fault(f"the header's checksum is {stated:#010x}, its bytes give {computed:#010x}", byte=_AT)
