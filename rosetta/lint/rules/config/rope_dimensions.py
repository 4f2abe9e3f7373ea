"""C213: as many rotated dims as no head has."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.settings_reader import listed

RULE = Rule(
    "C213",
    "rope-dimensions",
    "error",
    what="The number of rotated dims is odd, or larger than a head.",
    why="The share that is rotated (partial_rotary_factor) was applied twice or to the wrong size, or the number was "
    "copied from another model.",
    fix="Write rope.dimension_count as the size of a head times the share that is rotated.",
    refusals=("rope.dimension_count is .* an odd number",),
)
_FIXED = ("llama", "deci", "falcon", "llama-embed")  # llama-model.cpp: n_rot must be the size of a head


def faults(subject: Subject) -> Iterator[Fault]:
    """A count that cannot be."""
    rotated = subject.count("rope.dimension_count")
    size = _largest_head(subject)
    hidden, heads = subject.count("embedding_length"), subject.count("attention.head_count")
    if size is None and subject.gguf is not None and hidden and heads:
        size = hidden // heads
    if rotated is None:
        return
    if rotated % 2:
        yield subject.at_key("rope.dimension_count", f"is {rotated}, an odd number")
    elif size and rotated > size:
        yield subject.at_key("rope.dimension_count", f"is {rotated}, and a head has {size} dims")
    elif subject.gguf is not None and subject.architecture in _FIXED and size and rotated != size:
        yield subject.at_key(
            "rope.dimension_count",
            f"is {rotated}, and llama.cpp wants the {size} of a head for {subject.architecture}",
        )


def _largest_head(subject: Subject) -> int | None:
    """The size of a head, of the largest where layers have heads of several sizes (Gemma 4); None where it is not
    stated."""
    model = subject.model
    sizes = listed(model.config, "attention.key_length") if model and model.architecture.runs else []
    stated = subject.count("attention.key_length")
    return max(sizes) if len(set(sizes)) > 1 else stated
