"""Some weights of another training beside others that are equal: one sentence instead of a finding for each.

A fine-tune with frozen layers or a frozen embedding, one of the networks alone, parts of two models put together. It is
said where the search has found no cause of several matrices. A sample then tells which others are of their kind: near
the other side's copy, different from it in nearly every row, and no multiple of it with an amount added, row by row.
What has such a cause is left to the search.

Letters: R = sampled rows, C = columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from rosetta.compare.pair import ModelPair
from rosetta.compare.trait import LEAST
from rosetta.compare.weights import readable
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import for_all_names, instead, of_weights
from rosetta.diagnose.words import listed
from rosetta.diagnose.wrong_pair import BEYOND, EVERYWHERE, LEAST_MATRICES, MOST_NAMED, RELATED, ROWS
from rosetta.model import Model, Patch
from rosetta.names import LAYER
from rosetta.weight import Weight
from rosetta.weight_cache import variance

KIND = "value.other_weights"


@dataclass(frozen=True)
class TrainedPart:
    """The weights that one side has of another training.

    Args:
        correlations: with the other side's, by name; vectors among them.
        matrices: how many of them are none.
        compared: matrices of equal dims that both sides have.
        where: in which layers, or in which stages of them.
    """

    correlations: Mapping[str, float]
    matrices: int
    compared: int
    where: str

    @property
    def words(self) -> str:
        """One sentence, and where the two differ most."""
        ranked = sorted(self.correlations.items(), key=lambda item: item[1])
        most = ", ".join(f"{name} ({value:.5g})" for name, value in ranked[:MOST_NAMED])
        return (
            f"the same architecture, other weights in {self.where}: {self.matrices} of {self.compared} matrices "
            f"differ everywhere and correlate at {ranked[0][1]:.5g} or more: a fine-tune of these alone, or parts of "
            f"two models put together; they differ most at {most}"
        )


@dataclass(frozen=True)
class Related:
    """What a sample of all weights that two models have says.

    Args:
        correlations: of those that look like two trainings of one weight, by name.
        compared: matrices of equal dims.
    """

    correlations: Mapping[str, float]
    compared: int


def related_weights(pair: ModelPair) -> Related:
    """A sample of all weights of two models."""
    a, b = pair.reference.model, pair.subject.model
    found: dict[str, float] = {}
    compared = 0
    for name, weight in a.weights.items():
        other = b.weights.get(name)
        if other is None or other.dims != weight.dims or _is_tied_head(weight, a):
            continue
        if not (readable(weight) and readable(other)):
            continue
        compared += _is_matrix(weight)
        related = _related(weight, other) if weight.dims[-1] >= LEAST else None
        if related is not None:
            found[name] = related
    return Related(found, compared)


def are_many(causeless: Collection[str], model: Model) -> bool:
    """Whether weights without a cause are enough to ask for another training of them."""
    return sum(_is_matrix(model.weights.get(name)) for name in causeless) >= LEAST_MATRICES


def trained_part(
    related: Related, model: Model, causeless: Collection[str], explained: Collection[str]
) -> TrainedPart | None:
    """The weights of another training; None where too few of those without a cause are.

    Args:
        related: see `related_weights`.
        model: the believed one.
        causeless: names of weights of which no cause was found.
        explained: of those that have one.
    """
    found = {name: value for name, value in related.correlations.items() if name not in explained}
    matrices = [name for name in found if _is_matrix(model.weights[name])]
    if len({*matrices} & {*causeless}) < LEAST_MATRICES:
        return None
    return TrainedPart(found, len(matrices), related.compared, _where(matrices, model))


def taken_from_reference(fault: Fault, part: TrainedPart) -> Proposal:
    """The finding of such weights, and the repair that takes them all from the reference: it proves nothing."""
    believed, own = fault.pair.reference.model.weights, fault.pair.subject.model.weights
    names = [name for name in part.correlations if name in believed and name in own]
    patches: dict[str, Patch] = {}
    for name in names:
        patches |= for_all_names(fault.pair.subject.model, own[name], instead(believed[name]))
    return Proposal(
        kind=KIND,
        role="subject",
        repair=Repair(patches=patches),
        message=part.words,
        recommendation="see which checkpoint each of the files was made from, and compare two that were made from one",
        from_reference=of_weights(*(sum(own[name].count for name in some) for some in (names, [*own]))),
    )


def _is_matrix(weight: Weight | None) -> bool:
    return weight is not None and len(weight.dims) > 1


def _is_tied_head(weight: Weight, model: Model) -> bool:
    embedding = model.weights.get("token_embd.weight")
    return weight.name == "output.weight" and embedding is not None and weight.same_place(embedding)


def _related(weight: Weight, other: Weight) -> float | None:
    """The correlation of two copies of a weight that look like two trainings of one; else None."""
    first, last = _sampled(weight)
    x, y = (w.values(first, last).double() for w in (weight, other))
    explained = variance(weight, other, first, last).double()
    x, y, explained = (z.reshape(-1, z.shape[-1]) for z in (x, y, explained))  # [R, C]
    if not bool(x.isfinite().all() and y.isfinite().all()):
        return None
    allowed = BEYOND**2 * explained.sum(1).clamp(min=1e-30)
    differ = (x - y).square().sum(1) > allowed
    if float(differ.double().mean()) < EVERYWHERE:
        return None
    if float((_left_by_a_line(x, y) > allowed).double().mean()) < EVERYWHERE:
        return None
    # A norm's values all lie about one: what it correlates by is its deviation from its mean.
    if len(weight.dims) == 1:
        x, y = x - x.mean(), y - y.mean()
    norm = float(torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y))
    correlation = float((x * y).sum()) / norm if norm else 0.0
    return correlation if correlation >= RELATED else None


def _sampled(weight: Weight) -> tuple[int, int]:
    """Rows from the middle; of stacked experts one of them, of a vector all of it."""
    if len(weight.dims) == 1:
        return 0, weight.dims[0]
    count = 1 if len(weight.dims) > 2 else min(ROWS, weight.dims[0])
    first = (weight.dims[0] - count) // 2
    return first, first + count


def _left_by_a_line(x: Tensor, y: Tensor) -> Tensor:
    """What is left of each row of y when the multiple of x's that fits it best, and an amount, are taken off: Σ of
    squares, [R]."""
    x, y = (z - z.mean(1, keepdim=True) for z in (x, y))
    slope = (x * y).sum(1) / x.square().sum(1).clamp(min=1e-300)
    return (y - slope[:, None] * x).square().sum(1)


def _where(names: Sequence[str], model: Model) -> str:
    """Which matrices these are: all of some layers, or some of each of these, and those outside the layers."""
    stems: dict[int, set[str]] = {}
    alone = [name.removesuffix(".weight") for name in names if _layer(name) is None]
    for name in names:
        if (layer := _layer(name)) is not None:
            stems.setdefault(layer, set()).add(_stem(name))
    said = alone
    if stems:
        all_of_them = {
            _stem(name) for name in model.weights if _layer(name) in stems and _is_matrix(model.weights[name])
        }
        some = set.union(*stems.values())
        layers = f"layer{'s' * (len(stems) > 1)} {ranges(sorted(stems))}"
        said = [*alone, layers if some == all_of_them else f"{listed(sorted(some))} of {layers}"]
    return listed(said)


def _layer(name: str) -> int | None:
    found = LAYER.match(name)
    return None if found is None else int(found[1])


def _stem(name: str) -> str:
    found = LAYER.match(name)
    return (name if found is None else found[2]).removesuffix(".weight")


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, those that follow each other as one range.

    >>> ranges([2, 5, 6, 7, 9, 10])
    '2, 5 to 7, 9 and 10'
    """
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), lambda item: item[1] - item[0])
    ]
    said = [part for run in runs for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    return listed(said)
