"""C217: config.json names a dtype that no tensor has."""

from collections.abc import Iterator

from rosetta.containers.huggingface.settings import huggingface_quantisation
from rosetta.dtypes import DTYPES
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C217",
    "torch-dtype",
    "warning",
    what="config.json names a dtype of which no tensor is.",
    why="The weights were converted and the config was not, or the reverse. transformers loads in the named dtype: "
    "BF16 weights named float16 overflow there.",
    fix="Write the dtype of the weights, or convert them.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """A dtype of which no floating-point tensor is."""
    if subject.folder is None or huggingface_quantisation(subject.container.metadata) is not None:
        return
    for key in ("dtype", "torch_dtype"):
        named = subject.container.metadata.get(key)
        held = {t.entry.dtype for t in subject.tensors if DTYPES[t.entry.dtype].mantissa_bits is not None}
        if isinstance(named, str) and held:
            plain = named.removeprefix("torch.")
            if plain != "auto" and plain not in {DTYPES[dtype].number for dtype in held}:
                yield subject.at_file_key(key, f"is {named}, and the weights are {', '.join(sorted(held))}")
