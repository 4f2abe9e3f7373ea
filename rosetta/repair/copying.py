"""Weights that are another model's: how much of a file they are, and the model that has the other file's instead.

No repair makes one model of another. What may be asked for is a copy, and that is called one.
"""

from __future__ import annotations

from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, Side
from rosetta.diagnose import Comparison
from rosetta.diagnose.engine import TAKEN_WHOLE
from rosetta.diagnose.one_stack import stack_of
from rosetta.diagnose.patches import instead
from rosetta.errors import UsageError
from rosetta.model import Model

OTHERS = (*TAKEN_WHOLE, "value.rotated")
LARGEST_SHARE = 0.1  # of a repaired file that may come from the other one


def _strange(comparison: Comparison) -> list[Finding]:
    """What says that weights are another model's; one that holds another's values is repaired like any other."""
    return [f for f in comparison.findings if f.kind in OTHERS and f.partner is None]


def strange_side(comparison: Comparison) -> Side | None:
    """The side whose weights are another model's; None where no finding says so."""
    return next((finding.side for finding in _strange(comparison)), None)


def strange_weights(comparison: Comparison, side: Side) -> list[str]:
    """The weights of a side that are another model's, by canonical name: all that differ where the models do."""
    found = [finding for finding in _strange(comparison) if finding.side == side]
    differing = [row.name for row in comparison.weights.differing_tensors]
    if any(finding.tensor is None and finding.layer is None for finding in found):
        return differing
    layers = tuple(f"blk.{finding.layer}." for finding in found if finding.tensor is None)
    stacks = {finding.tensor for finding in found}
    of_many = [name for name in differing if name.startswith(layers) or stack_of(name) in stacks - {None}]
    return list(dict.fromkeys([*of_many, *(f.tensor for f in found if f.tensor is not None)]))


def strange_share(comparison: Comparison, side: Side) -> float:
    """How much of a side's tensors, in bytes, is another model's, 0 to 1."""
    container, weights = comparison.models[side].container, comparison.models[side].weights
    own = {weights[name].entry.name for name in strange_weights(comparison, side) if name in weights}
    total = sum(entry.nbytes for entry in container.tensors.values())
    return sum(container.tensors[name].nbytes for name in own if name in container.tensors) / max(1, total)


def refusal(share: float, model: Model, source: object) -> UsageError:
    """What is said where a repaired file would be a copy of the other one."""
    return UsageError(
        f"{share:.0%} of the tensors' bytes would come from {source}: that is a copy of it, not a repair",
        file=model.container.path,
        remedy="compare two files of one model, or say --allow-copy",
    )


def check_sizes(comparison: Comparison, side: Side) -> None:
    """Refuse a model whose weights have other dims than those that would be copied.

    Raises:
        UsageError: the two have other sizes, so that a copy of weights alone would fit nothing.
    """
    model, other = comparison.models[side], comparison.models[other_side(side)]
    for name in strange_weights(comparison, side):
        own, theirs = model.weights.get(name), other.weights.get(name)
        if own is not None and theirs is not None and own.dims != theirs.dims:
            raise UsageError(
                f"is a model of another size than {other.container.path}, whose weights do not fit",
                file=model.container.path,
                where=f"tensor {own.entry.name!r}",
                remedy="take the other file itself",
            )


def with_copies(comparison: Comparison, side: Side) -> Model:
    """A side as it is repaired, with the other side's weights where its own are another model's.

    Raises:
        UsageError: see `check_sizes`.
    """
    check_sizes(comparison, side)
    other = comparison.repaired[other_side(side)].weights
    names = [name for name in strange_weights(comparison, side) if name in other]
    return comparison.repaired[side].repaired(patches={name: instead(other[name]) for name in names})
