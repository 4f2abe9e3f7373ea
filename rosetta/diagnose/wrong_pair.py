"""Two models that are not one: a base and its fine-tune, two sizes, two revisions. One sentence instead of a flood.

It is said only where the search has found no cause of two weights, and a sample of all of them says that every one
differs everywhere: a permutation, a shift or a lost scale of all tensors has a cause of its own. Beneath the noise of
quantisation matrices do not show it. Norms and biases do, which are floats in both files: no conversion moves values of
all of them a little, each by another part. Of a large matrix the search takes minutes, and is left out where nothing of
one model is in the other: neither do samples of matrices correlate nor do vectors, whose values are not even the same
ones in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rosetta.compare.pair import ModelPair
from rosetta.compare.results import Evidence, Finding, Side
from rosetta.compare.trait import LEAST
from rosetta.compare.weights import readable
from rosetta.diagnose.hypothesis import Fault
from rosetta.dtypes import FLOATS
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
CAUSELESS = 2  # weights without a cause before a sample is taken
RELATED = 0.9  # correlation of a vector with what it was trained from, or on to; damage leaves none
# Of the logits' size: of two trainings they are as far apart as they are large, but for how often each token is said.
ONE_MODEL = 0.1
MOVED = 0.2  # of a vector's values: in BF16 a short training leaves most of them as they were
CUT_TO_BF16 = -1 << 16  # the bits of a float32 that are BF16's


@dataclass(frozen=True)
class Likeness:
    """What a sample of all matrices that both sides have says.

    Args:
        correlations: of each matrix that differs, by name.
        compared: matrices of equal dims.
        other_dims: matrices whose dims differ.
        vectors: correlation of each vector that differs in many of its values, by name.
        compared_vectors: vectors of equal dims that are floats in both files.
        one_architecture: whether both files are of one.
    """

    correlations: Mapping[str, float]
    compared: int
    other_dims: int
    vectors: Mapping[str, float] = field(default_factory=dict)
    compared_vectors: int = 0
    one_architecture: bool = True

    @property
    def of_two_models(self) -> bool:
        """Whether nearly every matrix differs in its sample, or nearly every vector in many of its values, a little."""
        total = self.compared + self.other_dims
        by_matrices = len(self.correlations) + self.other_dims >= EVERYWHERE * total
        return total >= LEAST_MATRICES and (by_matrices or self._by_vectors)

    @property
    def _by_vectors(self) -> bool:
        related = sum(value >= RELATED for value in self.vectors.values())
        return self.compared_vectors >= LEAST_MATRICES and related >= EVERYWHERE * self.compared_vectors

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
        few = len(self.correlations) + self.other_dims < EVERYWHERE * (self.compared + self.other_dims)
        found, compared, what = (
            (self.vectors, self.compared_vectors, "norms and biases")
            if few
            else (self.correlations, self.compared, "matrices")
        )
        ranked = sorted(found.items(), key=lambda item: item[1])
        least, median = ranked[0][1], ranked[len(ranked) // 2][1]
        most = ", ".join(f"{name} ({value:.5g})" for name, value in ranked[:MOST_NAMED])
        count = f"{len(ranked)} of {compared} {what} differ {'in many values' if few else 'everywhere'}"
        if median < UNRELATED:
            whose = " of one architecture" if self.one_architecture else ""
            return f"unrelated weights{whose}: {count}, and have nothing in common"
        start = "the same architecture, other weights" if self.one_architecture else "other weights"
        return (
            f"{start}: {count} and correlate at {least:.5g} or more: a fine-tune of one "
            f"another, or of one base, or another revision; they differ most at {most}"
        )


def likeness(pair: ModelPair) -> Likeness:
    """A sample of all matrices of two models, and all their vectors."""
    a, b = pair.reference.model, pair.subject.model
    correlations: dict[str, float] = {}
    vectors: dict[str, float] = {}
    compared = other_dims = compared_vectors = 0
    for name, weight in a.weights.items():
        other = b.weights.get(name)
        if other is not None and _tell(weight, other):
            compared_vectors += 1
            if (moved := _correlation_if_moved(weight, other)) is not None:
                vectors[name] = moved
        if other is None or len(weight.dims) != 2 or (name == "output.weight" and _tied(a, b)):
            continue
        if other.dims != weight.dims:  # what a file's own config belies is no other size
            other_dims += not any(model.mismatch(name) for model in (a, b))
            continue
        if not (readable(weight) and readable(other)):
            continue
        compared += 1
        found = _correlation_where_different(weight, other)
        if found is not None:
            correlations[name] = found
    alike = a.architecture.name == b.architecture.name
    return Likeness(correlations, compared, other_dims, vectors, compared_vectors, alike)


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
    return abs(correlation(weight, other)) < UNRELATED and found < FOUND_BY_CHANCE


def _tell(weight: Weight, other: Weight) -> bool:
    """Whether two vectors are floats of one length, long enough to correlate by more than chance."""
    floats = {weight.dtype, other.dtype} <= {*FLOATS}
    alike = len(weight.dims) == 1 and weight.dims == other.dims and weight.count >= LEAST
    return floats and alike and readable(weight) and readable(other)


def _correlation_if_moved(weight: Weight, other: Weight) -> float | None:
    """The correlation of two vectors that differ in many values, by more than any rounding; else None."""
    x, y = (w.values().double() for w in (weight, other))
    if not bool(x.isfinite().all() and y.isfinite().all()) or float(x.std()) == 0 or float(y.std()) == 0:
        return None
    if _in_halves_of(x, y) or _in_halves_of(y, x):
        return None  # one file was made from a copy in halves of what the other one holds
    rounding = torch.hypot(weight.sigma().double(), other.sigma().double())
    moved = float(((x - y).abs() > STEPS * rounding).double().mean()) >= MOVED
    return correlation(weight, other) if moved else None


def _in_halves_of(x: Tensor, y: Tensor) -> bool:
    """Whether values are others rounded to a half, or cut off to one."""
    kept = x.float().contiguous().view(torch.int32) & CUT_TO_BF16
    return torch.equal(kept.view(torch.float32).double(), y) or any(
        torch.equal(x.to(half).double(), y) for half in (torch.bfloat16, torch.float16)
    )


def correlation(weight: Weight, other: Weight) -> float:
    """Of two vectors, whatever their means."""
    return float(torch.corrcoef(torch.stack([w.values().double() for w in (weight, other)]))[0, 1])


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


def in_another_basis(finding: Finding, agreement: float | None) -> Finding:
    """The finding of two models that have nothing in common; that they are one where their logits agree all the same.

    Args:
        finding: see `two_models`.
        agreement: how far the logits of both are apart, relative to them, each from its own inputs; None: not known.
    """
    if agreement is None or not agreement <= ONE_MODEL:
        return finding
    return finding.model_copy(
        update={
            "kind": "value.rotated",
            "message": f"one model in two bases: its logits agree, {agreement:.2g} of their size apart, though "
            f"{finding.message}: the residual stream of one file is rotated (SpinQuant, QuaRot)",
            "recommendation": "compare two files in one basis to see more than the logits",
        }
    )


def two_models(fault: Fault, words: str, first: Evidence | None) -> Finding:
    """The one finding of a wrong pair, which stands where the first fault is."""
    one = "the file that was run" if fault.recorded else "two files that were made from one model"
    side: Side = fault.side("subject")
    return Finding(
        kind="value.other_weights",
        side=side,
        message=words,
        recommendation=f"give {one}: no conversion makes one of these from the other",
        status="suspected",
        evidence=first,
    )
