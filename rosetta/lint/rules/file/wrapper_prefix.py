"""F116: names that begin with that of a module which only wrapped the model."""

from collections.abc import Iterator

from rosetta.architectures import architecture_of
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject
from rosetta.names import wrapper_of

RULE = Rule(
    "F116",
    "wrapper-prefix",
    "error",
    what="Tensor names carry the name of a module that only wrapped the model while it was trained.",
    why="The state of torch.compile, FSDP, DataParallel or PEFT was saved instead of the model's own. Loaders do not "
    "find the weights, and some go on with random ones.",
    fix="Save the module inside the wrapper, or strip the prefix from every name.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first such name of each wrapper, and how many there are."""
    by_wrapper: dict[str, list[str]] = {}
    for tensor in subject.tensors:
        wrapper = wrapper_of(tensor.name) or _twice(subject, tensor)
        if wrapper is not None:
            by_wrapper.setdefault(wrapper, []).append(tensor.name)
    for wrapper, names in by_wrapper.items():
        first = next(tensor for tensor in subject.tensors if tensor.name == names[0])
        yield subject.at_tensor(first, f"{len(names):,} names carry {wrapper!r} of a wrapping module")


def _twice(subject: Subject, tensor: StoredTensor) -> str | None:
    """`model.` before names that have it already (`model.model.layers.0…`), or that of GGUF's never have it."""
    if subject.kind == "gguf":
        wrapped = tensor.name.startswith("model.")
    else:  # a class that is not known may be built so
        known = architecture_of(subject.container)
        wrapped = (
            known is not None and known.huggingface.in_transformers and tensor.name.startswith("model.model.")
        )
    return "model." if wrapped and tensor.stem is not None else None
