"""V403: rows of a matrix that hold one value over and over."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V403",
    "constant-rows",
    "error",
    what="Rows of a matrix hold one and the same value over and over.",
    why="The matrix was filled by a placeholder (ones), or the rows of an embedding that was resized were all set to a "
    "number.",
    fix="Convert the tensor again.",
)
_LEAST = 8  # columns: fewer can be equal by chance


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """The first such row, and how many there are."""
    if seen.is_matrix and seen.constant_rows and seen.tensor.dims[-1] >= _LEAST:
        first = "" if seen.zero_rows else f", the first is row {seen.first_constant:,}"
        yield seen.subject.at_tensor(
            seen.tensor, f"{seen.constant_rows:,} of its rows hold one value each{first}"
        )
