"""F106: tensors do not lie in the order that the format's strict readers ask for."""

from collections.abc import Iterator
from itertools import groupby

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F106",
    "out-of-order",
    "error",
    what="Tensors do not lie in the order that the format wants.",
    why="llama.cpp refuses a GGUF file whose data is not laid out one tensor after the other as the header lists them; "
    "aprender's strict reader looks tensors up in an index that is sorted by name, and misses them in any other.",
    fix="Write the file again: GGUF data in the order of the header, an .apr index in the order of the names.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first tensor that stands too early or too late."""
    if subject.apr is not None:
        names = [tensor.name for tensor in subject.tensors]
        for before, tensor in zip(names, subject.tensors[1:], strict=False):
            if before.encode() > tensor.name.encode():
                yield subject.at_tensor(
                    tensor, f"stands after {before!r} in the index, which is not sorted by name"
                )
                return
    elif subject.gguf is not None:
        for _, group in groupby(subject.tensors, key=lambda tensor: tensor.file):
            last = 0
            for tensor in group:
                if tensor.start < last:
                    yield subject.at_tensor(tensor, "its data lies before that of a tensor listed before it")
                    return
                last = tensor.start
