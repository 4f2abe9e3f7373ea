"""F119: a tensor's bytes are those of another dtype than it declares."""

from collections import Counter
from collections.abc import Iterator

from rosetta.dtypes import flat_bytes, others_of_bytes, rowwise_bytes
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "F119",
    "dtype-bytes",
    "error",
    what="A tensor has as many bytes as another dtype takes, and not those of its own.",
    why="The label was changed and the data not converted, or the writer's list of codes is not the reader's (a Q8_0 "
    "of GGML and one of .apr have different numbers).",
    fix="Declare the dtype that the bytes are of; where they were meant to be converted, convert them.",
    refusals=(
        r"take [\d,]+ bytes, data_offsets are",
        r"take [\d,]+ bytes \(\w+\)",
        "needs rows in blocks of",
    ),
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each tensor whose bytes, or whose room up to the next, do not fit its dims."""
    begun = Counter((tensor.file, tensor.start) for tensor in subject.tensors if tensor.entry.nbytes)
    for tensor in subject.tensors:
        entry = tensor.entry
        if not entry.nbytes or begun[tensor.file, tensor.start] > 1:  # the room of two is that of none
            continue
        held = entry.nbytes if entry.room is None else entry.room
        taken = {flat_bytes(entry.dtype, entry.dims)}
        if subject.apr is not None:
            taken.add(rowwise_bytes(entry.dtype, entry.dims))
        if held in taken or (entry.room is not None and not dtypes_filling(tensor, held)):
            continue
        names = dtypes_filling(tensor, held)
        which = f", as many as {' or '.join(names)} takes" if names else ""
        yield subject.at_tensor(
            tensor, f"is declared {entry.dtype} ({max(taken):,} bytes) and has {held:,}{which}"
        )


def dtypes_filling(tensor: StoredTensor, held: int) -> list[str]:
    """The dtypes whose bytes fill the room exactly, but for padding."""
    padding = 0 if tensor.entry.room is None else 31
    return others_of_bytes(tensor.entry.dtype, tensor.dims, held, padding)
