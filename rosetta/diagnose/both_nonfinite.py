"""NaN or Inf in the same weight of both sides: neither accuses the other, and nothing behind it can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, Side, StageDiff
from rosetta.diagnose.hypothesis import largest
from rosetta.model import Model

KIND = "value.nonfinite"


def both_nonfinite(
    models: dict[Side, Model], reference: Side, stages: Sequence[StageDiff], known: set[str | None]
) -> Iterator[Finding]:
    """A finding for each weight that is not finite on both sides, at the first stage that is not on either.

    Args:
        models: both sides.
        reference: the side that is believed.
        stages: of the run.
        known: tensors that other findings name.
    """
    blind = next((stage for stage in stages if stage.nonfinite.left and stage.nonfinite.right), None)
    subject = models[other_side(reference)]
    node = None if blind is None else subject.graph.get(blind.name)
    for name in () if node is None else node.tensors:
        if name not in known and holds_none_on_both(name, *models.values()):
            yield Finding(
                kind=KIND,
                side=other_side(reference),
                layer=node.layer if node is not None else None,
                tensor=name,
                message=said_of(name),
                recommendation=remedy_of(subject.weights[name].entry.name),
                status="suspected",
            )


def holds_none_on_both(name: str, *models: Model) -> bool:
    """Whether a weight holds NaN or Inf in all files."""
    held = [model.weights.get(name) for model in models]
    return all(weight is not None and math.isinf(largest(weight)) for weight in held)


def said_of(name: str) -> str:
    """The finding's sentence."""
    return f"{name} holds NaN or Inf in both files: neither tells what is right, and nothing behind it can be compared"


def remedy_of(name: str) -> str:
    """What to do about it."""
    return f"export {name} again from weights that are finite: both files were made after they had overflowed"
