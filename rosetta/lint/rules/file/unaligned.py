"""F105: tensor data does not begin where its format wants it."""

from collections.abc import Iterator

from rosetta.containers.apr.layout import ALIGNMENT
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "F105",
    "unaligned",
    "error",
    what="Tensor data does not begin at a multiple of the format's alignment.",
    why="The writer left out the padding, or said another general.alignment than it used. llama.cpp refuses such a "
    "GGUF file; other loaders are slower, or crash on processors that want aligned data.",
    fix="Write the file again with the padding (GGUF: general.alignment, 32 by default; .apr: 64 bytes).",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """The first tensor that is not aligned, and how many are not."""
    if subject.gguf is None and subject.apr is None:  # safetensors aligns nothing but its header
        return
    alignment = ALIGNMENT if subject.gguf is None else subject.gguf.header.alignment
    wrong = [t for t in subject.tensors if t.entry.nbytes and t.start % alignment]
    if wrong:
        more = f", as do {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        yield subject.at_tensor(
            wrong[0], f"begins at byte {wrong[0].start:,}, no multiple of {alignment}{more}"
        )
