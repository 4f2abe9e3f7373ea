"""Two models that are not one: a base and its fine-tune, two sizes, two revisions. One sentence instead of a flood.

It is said only where the search has found no cause of two matrices, and a sample of all of them says that every one
differs everywhere: a permutation, a shift or a lost scale of all tensors has a cause of its own. Of a large matrix that
search takes minutes, and is left out where nothing of one model is in the other: neither do samples of matrices
correlate nor do vectors, whose values are not even the same ones in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rosetta.compare.pair import ModelPair
from rosetta.compare.results import Evidence, Finding, Side
from rosetta.compare.weights import readable
from rosetta.diagnose.hypothesis import Fault
from rosetta.model import Model
from rosetta.weight import Weight
from rosetta.weight_cache import variance

ROWS = 16  # of each matrix, from its middle
LEAST_MATRICES = 4
EVERYWHERE = 0.8  # of the matrices; a fine-tune may leave a few as they were
BEYOND = 2.5  # rms of the difference in units of its predicted rms
UNRELATED = 0.2  # correlation
MOST_NAMED = 3
LARGE = 1 << 26  # weights of a matrix; the search for its causes reads it some twenty times
LEAST_VALUES = 256  # of a vector that tells; shorter ones correlate by chance
STEPS = 4  # standard deviations of the rounding within which a value counts as another one
FOUND_BY_CHANCE = 0.1  # of a vector's values; of two models' F32 vectors a few hundredths are
CAUSELESS = 2  # matrices without a cause before a sample is taken


@dataclass(frozen=True)
class Likeness:
    """What a sample of all matrices that both sides have says.

    Args:
        correlations: of each matrix that differs, by name.
        compared: matrices of equal dims.
        other_dims: matrices whose dims differ.
    """

    correlations: Mapping[str, float]
    compared: int
    other_dims: int

    @property
    def of_two_models(self) -> bool:
        """Whether nearly every matrix differs in its sample."""
        total = self.compared + self.other_dims
        return total >= LEAST_MATRICES and len(self.correlations) + self.other_dims >= EVERYWHERE * total

    @property
    def of_strangers(self) -> bool:
        """Whether these are two models of the same dims, of which most matrices have nothing in common."""
        unrelated = sum(abs(value) < UNRELATED for value in self.correlations.values())
        return self.of_two_models and not self.other_dims and unrelated >= EVERYWHERE * self.compared

    @property
    def words(self) -> str:
        """One sentence, and where the two differ most."""
        if self.other_dims > self.compared:
            total = self.other_dims + self.compared
            return f"two models of other sizes: {self.other_dims} of {total} matrices differ in dims"
        ranked = sorted(self.correlations.items(), key=lambda item: item[1])
        least, median = ranked[0][1], ranked[len(ranked) // 2][1]
        most = ", ".join(f"{name} ({value:.3g})" for name, value in ranked[:MOST_NAMED])
        count = f"{len(ranked)} of {self.compared} matrices differ everywhere"
        if median < UNRELATED:
            return f"unrelated weights of one architecture: {count}, and have nothing in common"
        return (
            f"the same architecture, other weights: {count} and correlate at {least:.3g} or more: a fine-tune of one "
            f"another, or of one base, or another revision; they differ most at {most}"
        )


def likeness(pair: ModelPair) -> Likeness:
    """A sample of all matrices of two models."""
    a, b = pair.reference.model, pair.subject.model
    correlations: dict[str, float] = {}
    compared = other_dims = 0
    for name, weight in a.weights.items():
        other = b.weights.get(name)
        if other is None or len(weight.dims) != 2 or (name == "output.weight" and _tied(a, b)):
            continue
        if other.dims != weight.dims:
            other_dims += 1
            continue
        if not (readable(weight) and readable(other)):
            continue
        compared += 1
        found = _correlation_where_different(weight, other)
        if found is not None:
            correlations[name] = found
    return Likeness(correlations, compared, other_dims)


def strangers_at_sight(pair: ModelPair) -> Likeness | None:
    """The sample of all matrices, where one of those that differ is large and nothing of one model is in the other."""
    a, b = pair.reference.model.weights, pair.subject.model.weights
    both = [(weight, b[name]) for name, weight in a.items() if name in b and b[name].dims == weight.dims]
    large = {weight.name for weight, _ in both if len(weight.dims) == 2 and weight.count >= LARGE}
    vectors = [copies for copies in both if len(copies[0].dims) == 1 and all(map(readable, copies))]
    if not large or not _mostly_unlike(vectors):
        return None
    found = likeness(pair)
    return found if found.of_strangers and large & {*found.correlations} else None


def _mostly_unlike(vectors: Sequence[tuple[Weight, Weight]]) -> bool:
    """Whether of the vectors that tell nearly all are unlike; of two copies of one model a few of them do."""
    told = alike = 0
    for weight, other in vectors:
        unlike = _unlike(weight, other)
        told, alike = told + (unlike is not None), alike + (unlike is False)
        if alike > (1 - EVERYWHERE) * len(vectors):
            return False
    return told >= LEAST_MATRICES and told - alike >= EVERYWHERE * told


def _unlike(weight: Weight, other: Weight) -> bool | None:
    """Whether two vectors neither correlate nor have the same values in some order; None where they cannot tell."""
    x, y = (w.values().double() for w in (weight, other))
    if len(x) < LEAST_VALUES or not bool(x.isfinite().all() and y.isfinite().all()):
        return None
    if float(x.std()) == 0 or float(y.std()) == 0:
        return None
    near = STEPS * torch.hypot(weight.sigma().double(), other.sigma().double())
    ordered = y.sort().values
    low, high = (torch.searchsorted(ordered, end) for end in (x - near, x + near))
    found = float((high > low).double().mean())
    correlation = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
    return abs(correlation) < UNRELATED and found < FOUND_BY_CHANCE


def _tied(*models: Model) -> bool:
    heads = [(m.weights.get("output.weight"), m.weights.get("token_embd.weight")) for m in models]
    return all(h is not None and e is not None and h.entry is e.entry for h, e in heads)


def _correlation_where_different(weight: Weight, other: Weight) -> float | None:
    first = max(0, (weight.dims[0] - ROWS) // 2)
    rows = first, min(weight.dims[0], first + ROWS)
    x, y = (w.values(*rows) for w in (weight, other))
    if not bool(x.isfinite().all() and y.isfinite().all()):
        return None
    ratio = ((x - y).square().sum(1) / variance(weight, other, *rows).sum(1).clamp(min=1e-30)).sqrt()
    if not bool((ratio > BEYOND).float().mean() >= EVERYWHERE):
        return None
    norm = float(torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y))
    return float((x.double() * y.double()).sum()) / norm if norm else 0.0


def two_models(fault: Fault, words: str, first: Evidence | None) -> Finding:
    """The one finding of a wrong pair, which stands where the first fault is."""
    side: Side = fault.side("subject")
    return Finding(
        kind="value.other_weights",
        side=side,
        message=words,
        recommendation="give two files that were made from one model: no conversion makes one of these from the other",
        status="suspected",
        evidence=first,
    )
