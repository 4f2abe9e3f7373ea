"""V402: a matrix, or rows of it, of nothing but zeros."""

from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V402",
    "zeroed",
    "error",
    what="A matrix holds nothing but zeros, or rows of it do.",
    why="A tensor was allocated and never filled, a shard was lost, or a copy stopped halfway.",
    fix="Convert the tensor again. Rows of an embedding that are padding may be zero, and are not looked at.",
)
_MAY_BE_ZERO = (
    "token_embd",
    "output.weight",
    "position_embd",
    "token_types",
    "per_layer_token_embd",
    "lm_head",
)


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """The whole, or the first row and how many there are."""
    if not seen.is_matrix:
        return
    if seen.count and seen.zeros == seen.count:
        yield seen.subject.at_tensor(seen.tensor, f"all its {seen.count:,} values are zero")
    elif seen.zero_rows and not (seen.tensor.stem or seen.tensor.name).startswith(_MAY_BE_ZERO):
        first = "" if seen.constant_rows else f", the first is row {seen.first_constant:,}"
        yield seen.subject.at_tensor(seen.tensor, f"{seen.zero_rows:,} of its rows are all zero{first}")
