"""Tensors that one side has and the other lacks, where no stage of the run shows it: a bias beneath the noise."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.compare.pairing import Role, other_side
from rosetta.compare.results import Finding, Side
from rosetta.diagnose.hypotheses.missing import lacks_layer
from rosetta.diagnose.hypothesis import Suspect
from rosetta.diagnose.tensor_names import own_name
from rosetta.model import Model
from rosetta.names import LAYER
from rosetta.weight import Weight, row_ranges


def one_sided(repaired: dict[Side, Model], reference: Side, known: set[str | None]) -> Iterator[Finding]:
    """A latent finding for each tensor of a layer that the other side computes with and this one has not.

    What holds one number alone is left out: a bias of zeros is none, and a norm of constants is another file's setting.

    Args:
        repaired: both sides with all repairs in place; what was proven missing is there.
        reference: the side that is believed.
        known: tensors that other findings name.
    """
    if not all(model.weights for model in repaired.values()):  # a recording has none
        return
    for side, model in repaired.items():
        other = repaired[other_side(side)]
        role: Role = "reference" if side == reference else "subject"
        suspect = Suspect(role, model, other)
        for name, weight in other.weights.items():
            if name in model.weights or name in known or not other.graph.readers.get(name):
                continue
            if LAYER.match(name) is None or lacks_layer(suspect, name) or _is_constant(weight):
                continue
            yield Finding(
                kind="value.missing",
                side=side,
                tensor=name,
                message=f"{name} is missing, the other side has it with dims {list(weight.dims)}; no stage of "
                "this run depends on it visibly",
                recommendation=f"export {own_name(model, name, weight)} into {model.container.path}",
                status="suspected",
                latent=True,
            )


def _is_constant(weight: Weight) -> bool:
    first = None
    for rows in row_ranges(weight):
        values = weight.values(*rows)
        if not values.numel():
            continue
        first = values.flatten()[0] if first is None else first
        if not bool((values == first).all()):
            return False
    return True
