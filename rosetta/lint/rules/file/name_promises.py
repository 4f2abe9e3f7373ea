"""F110: a file's name promises another type than the content has."""

import re
from collections.abc import Iterator

from rosetta.lint.recipes import NAME_OF_RECIPE, is_of_recipe, weights_by_dtype
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F110",
    "name-promises",
    "warning",
    what="The file's name promises another type than its tensors have, or another format.",
    why="The file was renamed, a default name was kept, or the quantisation that was asked for did not take place: a "
    "30 GB file called fp16 that holds F32.",
    fix="Name the file after what it holds, or write it again in the type that it promises.",
    refusals=("holds safetensors, although its name says",),
)
ENDINGS = {".gguf": "gguf", ".apr": "apr", ".safetensors": "huggingface"}


def faults(subject: Subject) -> Iterator[Fault]:
    """A name that ends in a type of which no matrix is, or in another format's ending."""
    promised = ENDINGS.get(subject.path.suffix.lower())
    if promised is not None and promised != subject.kind:
        yield Fault(f"its name ends in {subject.path.suffix}, and it is a file of {subject.container.label}")
    named = re.search(NAME_OF_RECIPE, subject.path.stem)
    if subject.folder is not None or named is None:
        return
    entries = [tensor.entry for tensor in subject.tensors]
    if not is_of_recipe(named[1].upper(), entries):
        most = weights_by_dtype(entries).most_common(1)[0][0]
        yield Fault(f"its name says {named[1]}, and its matrices are {most}")
