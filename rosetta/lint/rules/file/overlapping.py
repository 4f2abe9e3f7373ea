"""F104: two tensors share bytes."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F104",
    "overlapping",
    "error",
    what="Two tensors share bytes.",
    why="A writer counted offsets with the wrong size of a block, or a header was edited by hand: one of the tensors "
    "reads the other's weights.",
    fix="Write the file again; offsets follow from dims and dtypes alone.",
    refusals=("and the one before ends at",),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each tensor that begins before the one that lies in front of it has ended."""
    end, before = 0, None
    for tensor in sorted(
        (t for t in subject.tensors if t.entry.nbytes and t.entry.held is None),
        key=lambda t: (str(t.file), t.start),
    ):
        if before is not None and before.file == tensor.file and tensor.start < end:
            shared = min(end, tensor.start + tensor.entry.nbytes) - tensor.start
            yield subject.at_tensor(tensor, f"shares {shared:,} bytes with {before.name!r}")
        if before is None or before.file != tensor.file or tensor.start + tensor.entry.nbytes > end:
            end, before = tensor.start + tensor.entry.nbytes, tensor
