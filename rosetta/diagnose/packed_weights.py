"""A packed weight of a quantised folder, read in the ways in which such a weight is wrongly written or read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.blocks.schemes import Way
from rosetta.compare.weights import readable
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.diagnose.hypothesis import Fault, Suspect
from rosetta.diagnose.patches import for_all_names
from rosetta.model import Model, Patch
from rosetta.weight import Weight

EXPERT = re.compile(r"(_exps)\.\d+\.weight$")


def other_readings(weight: Weight) -> Iterator[tuple[Way, QuantisedContainer]]:
    """The folder as each wrong way of a weight's scheme reads it; nothing of one that no scheme packed."""
    container = weight.container
    if not isinstance(container, QuantisedContainer) or not is_packed(weight):
        return
    packed = container.packed[weight.entry.name]
    if packed.way == Way():  # else a repair reads it already in a way of its own
        for way in packed.ways:
            yield way, container.read_otherwise(packed.name, way)


def in_one_tensor(fault: Fault, suspect: Suspect, weight: Weight) -> Iterator[list[Weight]]:
    """A weight with all others of its stored tensor, where that is a stack of experts each of which is accused, the
    weight first; with those of its matrix, where that is fused; and then by itself."""
    others = [
        own for own in suspect.model.weights.values() if own.entry is weight.entry and own is not weight
    ]
    accused = [own for by, own in fault.accused_weights() if by.role == suspect.role]
    accused = [own for own in accused if own.entry is weight.entry]
    all_slots = {own.slot for own in (weight, *others)}
    if len(all_slots) > 1 and accused and accused[0] is weight and {own.slot for own in accused} == all_slots:
        yield [weight, *others]
    if weight.part is not None:
        yield [weight, *(own for own in others if own.beside(weight))]
    yield [weight]


def name_of(weights: Sequence[Weight]) -> str:
    """The name of weights of one stored tensor: the first one's; of a stack that of all its experts."""
    name = weights[0].name
    return name if len({weight.slot for weight in weights}) == 1 else EXPERT.sub(r"\1.weight", name)


def with_counterparts(
    fault: Fault, suspect: Suspect, weight: Weight
) -> Iterator[list[tuple[Weight, Weight]]]:
    """The same of a packed weight, each with the other side's copy; nothing where one has no such copy."""
    for weights in in_one_tensor(fault, suspect, weight) if is_packed(weight) else ():
        known = _known(suspect, weights)
        if len(known) == len(weights):
            yield known


def counterparts_of(suspect: Suspect, name: str) -> list[tuple[Weight, Weight]]:
    """The weights of a packed tensor that nothing has been done to, each with the other side's copy; nothing where one
    has no such copy."""
    folder = suspect.model.container
    weights = [own for own in suspect.model.weights.values() if own.entry.name == name]
    known = _known(suspect, weights)
    untouched = all(own.container is folder and not own.values_edits for own in weights)
    return known if untouched and len(known) == len(weights) else []


def _known(suspect: Suspect, weights: Sequence[Weight]) -> list[tuple[Weight, Weight]]:
    both = ((own, suspect.counterpart(own)) for own in weights)
    return [
        (own, other)
        for own, other in both
        if other is not None and other.dims == own.dims and readable(other)
    ]


def for_all_of(model: Model, weights: Sequence[Weight], patch: Patch) -> dict[str, Patch]:
    """The patch for several weights, see `for_all_names`."""
    return {name: patch for weight in weights for name in for_all_names(model, weight, patch)}


def is_packed(weight: Weight) -> bool:
    """Whether a scheme packed it."""
    return isinstance(weight.container, QuantisedContainer) and weight.entry.name in weight.container.packed


def stored_words(way: Way) -> str:
    """What is wrong with a folder whose weight is right when it is read so."""
    if way.swapped:
        order = "the other order within a byte" if way.order == "byte" else "turn within a word"
        return f"its {_swapped(way)} lie in {order}"
    if way.zero_shift:
        return f"its zero points are stored one too {'high' if way.zero_shift < 0 else 'low'}"
    if way.in_order:
        return "its columns lie in groups one after another, and its group index says otherwise"
    return {
        "ignored": "its codes are the values already, and scales beside them would change them",
        "divided by": "its scales are the inverse of what its codes are multiplied with",
        "transposed": "its scales lie by column and row where its scheme has them by row and column",
        "as stored": "it is stored as its scheme says",
    }[way.scales]


def decoded_words(way: Way) -> str:
    """What somebody did wrong who decoded a folder so."""
    if way.swapped:
        order = "the other order" if way.order == "byte" else "turn"
        return f"with the {_swapped(way)} of a {'byte' if way.order == 'byte' else 'word'} in {order}"
    if way.zero_shift:
        return f"with zero points one too {'low' if way.zero_shift < 0 else 'high'}"
    if way.in_order:
        return "with columns in groups one after another, whatever the group index says"
    return {
        "ignored": "without its scales",
        "divided by": "divided by its scales instead of multiplied",
        "transposed": "with scales of the wrong axis",
        "as stored": "as its scheme says",
    }[way.scales]


def _swapped(way: Way) -> str:
    return "codes and zero points" if "zeros" in way.swapped else "codes"


@dataclass(frozen=True)
class DecodedAnew:
    """Values that were decoded in a wrong way from a packed weight, brought to what they should be.

    Args:
        right, wrong: the packed weight as its scheme reads it, and as it was read.
        proportional: whether the two are multiples of each other.
    """

    right: Weight
    wrong: Weight
    proportional: bool

    def touches(self, start: int, stop: int) -> bool:
        """All of them."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """What the right way gives, with the rounding of what was stored."""
        right, wrong = self._read(values, start)
        return values * _ratio(right, wrong) if self.proportional else values + (right - wrong)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The rounding of what was stored, in the units of the right values, and of the arithmetic."""
        right, wrong = self._read(values, start)
        scaled = sigma * _ratio(right, wrong).abs() if self.proportional else sigma
        return torch.hypot(scaled, (values.abs() + right.abs() + wrong.abs()) * 2.0**-23)

    def _read(self, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        rows = start, start + len(values), values.device
        return self.right.values(*rows), self.wrong.values(*rows)


def _ratio(right: Tensor, wrong: Tensor) -> Tensor:
    return torch.where(wrong == 0, 1.0, right / wrong)
