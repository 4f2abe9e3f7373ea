"""C226: the copy of the index in an .apr's metadata is of other tensors."""

from collections.abc import Iterator
from typing import Any

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject

RULE = Rule(
    "C226",
    "copied-dims",
    "warning",
    what="tensor_shapes, in which an .apr's metadata repeats the dims of its tensors, says others than the index.",
    why="Tensors were changed, and the metadata was taken over from the file before. Programs that list a model by its "
    "metadata show what it no longer holds.",
    fix="Write tensor_shapes anew from the index, or leave it out: no loader asks for it.",
)
KEY = "tensor_shapes"


def faults(subject: Subject) -> Iterator[Fault]:
    """The first tensor of which the two say different things, and how many there are."""
    if subject.apr is None or subject.container.metadata.get(KEY) is None:
        return
    copied = subject.container.metadata[KEY]
    if not isinstance(copied, dict):
        yield Fault(f"is {copied!r:.60}, and must be an object of dims by tensor", key=KEY)
        return
    held = {tensor.name: tensor for tensor in subject.tensors}
    other = [tensor for name, tensor in held.items() if not _is_of(tensor, copied.get(name))]
    stray = [name for name in copied if name not in held and not name.startswith("__training__")]
    more = f"; {len(other) + len(stray) - 1} more differ" if len(other) + len(stray) > 1 else ""
    if other:
        said = f"says {copied[other[0].name]!s:.60}" if other[0].name in copied else "does not name it"
        yield subject.at_tensor(other[0], f"has dims {list(other[0].dims)}, and {KEY} {said}{more}")
    elif stray:
        yield Fault(f"names {stray[0]!r:.80}, and there is no such tensor{more}", key=KEY)


def _is_of(tensor: StoredTensor, copied: Any) -> bool:
    """Whether they are its dims; aprender turned them once more than the index's (GH-351, converter/write.rs)."""
    return copied in (list(tensor.dims), list(tensor.dims[::-1]))
