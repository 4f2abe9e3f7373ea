"""F120: an `.apr` header says that its weights lie `[in, out]`."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F120",
    "column-major",
    "error",
    what="An .apr header says COLUMN_MAJOR: its weights lie [in, out].",
    why="Every loader reads rows of [out, in]; none accepts the flag, and those that ignore it compute with transposed "
    "weights.",
    fix="Transpose the matrices on export, and set ROW_MAJOR (0x0400).",
)
_FLAGS_AT = 6  # byte of the header


def faults(subject: Subject) -> Iterator[Fault]:
    """The flag."""
    if subject.apr is not None and subject.apr.column_major:
        yield Fault("the flag COLUMN_MAJOR is set, which no loader accepts", byte=_FLAGS_AT)
