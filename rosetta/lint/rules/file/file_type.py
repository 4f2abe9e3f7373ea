"""F111: `general.file_type` names another recipe than the tensors are of."""

from collections.abc import Iterator

from rosetta.lint.recipes import FILE_TYPES, is_of_recipe
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F111",
    "file-type",
    "warning",
    what="general.file_type names a type of which no matrix is.",
    why="The key was copied from the file that this one was made from, or its code was taken for a tensor type's: the "
    "two lists of numbers differ (15 is Q4_K_M there and Q8_K here). Programs show it, and choose kernels by it.",
    fix="Write the code of llama.h's llama_ftype that fits the tensors.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """A code whose recipe has none of the dtypes at hand."""
    code = subject.container.metadata.get("general.file_type")
    if subject.gguf is None or not isinstance(code, int) or not subject.tensors:
        return
    name = FILE_TYPES.get(code)
    if name is None:
        yield subject.at_file_key("general.file_type", f"is {code}, which llama.cpp does not define")
    elif not is_of_recipe(name, [tensor.entry for tensor in subject.tensors]):
        held = {tensor.entry.dtype for tensor in subject.tensors}
        yield subject.at_file_key(
            "general.file_type", f"is {code} ({name}), and the tensors are {', '.join(sorted(held))}"
        )
