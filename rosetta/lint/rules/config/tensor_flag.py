"""C221: a flag of config.json denies the tensors."""

from collections.abc import Iterator

from rosetta.lint.flags import contradicted_flags
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C221",
    "tensor-flag",
    "error",
    what="config.json says that layers have biases or norms which are not stored, or that they have none which are.",
    why="attention_bias, mlp_bias, use_qkv_bias and their like were left at a class's default, or copied from another "
    "model. transformers leaves out what a flag denies, and makes what it promises of random numbers.",
    fix="Write the flag as the tensors have it, or export the tensors.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each flag that the tensors deny."""
    for found in contradicted_flags(subject.container):
        yield subject.at_file_key(found.key, found.words)
