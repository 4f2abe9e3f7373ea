"""C213: as many rotated dims as no head has."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.setting_values import listed

RULE = Rule(
    "C213",
    "rope-dimensions",
    "error",
    what="The number of rotated dims is odd, or larger than a head.",
    why="The share that is rotated (partial_rotary_factor) was applied twice or to the wrong size, or the number was "
    "copied from another model.",
    fix="Write rope.dimension_count as the size of a head times the share that is rotated.",
    refusals=(
        "rope.dimension_count is .* an odd number",
        "the share of a head that is rotated",
    ),
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
    config, key = {} if subject.model is None else subject.model.config, "attention.key_length"
    sizes = set(listed(config, key)) if key in config else set()
    return max(sizes) if len(sizes) > 1 else subject.count(key)
