"""V402: a matrix, or rows of it, of nothing but zeros."""

from collections.abc import Iterator

from rosetta.lint.bounds import NORM
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.value_facts import SeenTensor

RULE = Rule(
    "V402",
    "zeroed",
    "error",
    what="A matrix or a norm holds nothing but zeros, or rows of a matrix do.",
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


def _multiplies(seen: SeenTensor) -> bool:
    """Whether a vector is what a norm multiplies with, as it is stored: Gemma's folders store one less."""
    name, model = seen.tensor.stem or seen.tensor.name, seen.subject.model
    held = () if model is None else model.weights.values()
    edited = any(w.values_edits for w in held if w.entry.name == seen.tensor.name)
    return NORM.search(name) is not None and model is not None and not edited


def _is_placeholder(seen: SeenTensor) -> bool:
    """Whether llama.cpp asks for the tensor and does not compute by it, so that converters write zeros."""
    model, stem = seen.subject.model, (seen.tensor.stem or "").removesuffix(".weight")
    if model is None or stem not in model.architecture.llamacpp.placeholders:
        return False
    names = [name for name, weight in model.weights.items() if weight.entry.name == seen.tensor.name]
    return not any(name in model.graph.dims for name in names)


def value_faults(seen: SeenTensor) -> Iterator[Fault]:
    """The whole, or the first row and how many there are."""
    if _is_placeholder(seen):
        return
    if not seen.is_matrix:
        if seen.count and seen.zeros == seen.count and _multiplies(seen):
            yield seen.subject.at_tensor(seen.tensor, f"all its {seen.count:,} values are zero")
        return
    if seen.count and seen.zeros == seen.count:
        yield seen.subject.at_tensor(seen.tensor, f"all its {seen.count:,} values are zero")
    elif seen.zero_rows and not (seen.tensor.stem or seen.tensor.name).startswith(_MAY_BE_ZERO):
        first = "" if seen.constant_rows else f", the first is row {seen.first_constant:,}"
        yield seen.subject.at_tensor(seen.tensor, f"{seen.zero_rows:,} of its rows are all zero{first}")
