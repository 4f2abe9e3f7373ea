"""F117: tensors without a weight."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F117",
    "empty-tensor",
    "error",
    what="A tensor has a dim of 0, and hence no weights.",
    why="Under ZeRO stage 3 no process holds a weight whole, and saving without gathering writes empty ones.",
    fix="Gather the weights before saving (DeepSpeed: stage3_gather_16bit_weights_on_model_save), and save again.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first empty tensor, and how many are."""
    empty = [tensor for tensor in subject.tensors if 0 in tensor.dims]
    if empty:
        some = f"; {len(empty):,} of {len(subject.tensors):,} are empty" if len(empty) > 1 else ""
        yield subject.at_tensor(empty[0], f"has dims {list(empty[0].dims)}{some}")
