"""C223: a tensor has other dims than the config and the architecture ask for."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C223",
    "tensor-dims",
    "error",
    what="A tensor has other dims than the config and the architecture ask for.",
    why="It is of another size of the model, was cut or padded, or a fused tensor was taken apart at the wrong row. "
    "llama.cpp and transformers refuse the file.",
    fix="Convert the tensor again; rosetta SOURCE FILE says in what the two differ.",
    consequence=True,
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first such tensor, and how many there are."""
    model = subject.model
    if model is None or not model.architecture.runs:
        return
    wrong = {
        weight.entry.name: (weight.stored_dims, wanted[::-1] if weight.transposed else wanted)
        for name, weight in model.weights.items()
        if (wanted := model.mismatch(name)) is not None and max(wanted, default=0) >= 0
    }
    if wrong:
        name, (held, wanted) = next(iter(wrong.items()))
        tensor = next(tensor for tensor in subject.tensors if tensor.name == name)
        more = f"; {len(wrong) - 1:,} more have other dims as well" if len(wrong) > 1 else ""
        sizes = ", ".join("any" if size < 0 else str(size) for size in wanted)
        yield subject.at_tensor(tensor, f"has dims {list(held)}, and the config says [{sizes}]{more}")
