"""F116: names that begin with that of a module which only wrapped the model."""

from collections.abc import Iterator

from rosetta.architectures import architecture_of
from rosetta.containers.huggingface.text_part import text_part
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import StoredTensor, Subject
from rosetta.lint.tensor_names import meaning
from rosetta.names import shared_prefix, wrapper_of

RULE = Rule(
    "F116",
    "wrapper-prefix",
    "error",
    what="Tensor names carry the name of a module that only wrapped the model while it was trained.",
    why="The state of torch.compile, FSDP, DataParallel or PEFT was saved instead of the model's own. Loaders do not "
    "find the weights, and some go on with random ones.",
    fix="Save the module inside the wrapper, or strip the prefix from every name.",
)


# Modules that hold a whole model, of a class that has none.
_AROUND = ("model.", "transformer.", "language_model.")


def faults(subject: Subject) -> Iterator[Fault]:
    """The first such name of each wrapper, and how many there are."""
    by_wrapper: dict[str, list[str]] = {}
    for tensor in subject.tensors:
        wrapper = wrapper_of(tensor.name) or _around(subject, tensor)
        if wrapper is not None:
            by_wrapper.setdefault(wrapper, []).append(tensor.name)
    if not by_wrapper and (prefix := _of_all(subject)):
        by_wrapper[prefix] = [tensor.name for tensor in subject.tensors]
    for wrapper, names in by_wrapper.items():
        first = next(tensor for tensor in subject.tensors if tensor.name == names[0])
        yield subject.at_tensor(first, f"{len(names):,} names carry {wrapper!r} of a wrapping module")


def _around(subject: Subject, tensor: StoredTensor) -> str | None:
    """What stands before names that have `model.` already (`model.model.layers.0…`), or before GGUF's."""
    if subject.kind == "gguf":
        return "model." if tensor.name.startswith("model.") and tensor.stem is not None else None
    known = architecture_of(subject.container)
    if known is None or not known.huggingface.in_transformers:  # a class that is not known may be built so
        return None
    found = next((outer for outer in _AROUND if tensor.name.startswith(f"{outer}model.")), None)
    if found is None or meaning(tensor.name.removeprefix(found))[0] is None:
        return None
    nested = subject.folder is None or text_part(subject.container.metadata) is not None
    return None if nested and found == "language_model." else found


def _of_all(subject: Subject) -> str:
    """What all names begin with, and are known without."""
    model = subject.model
    names = () if model is None else [tensor.name for tensor in subject.tensors]
    return "" if model is None else shared_prefix(names, model.architecture, model.block_count)
