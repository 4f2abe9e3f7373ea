"""Plain functions of two results: how far apart they are, and where. Accumulated in float64, in one pass, because
a result that is not held whole is computed anew by each.

Letters: T = tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rosetta.compare.in_parts import InParts, Value, each_part
from rosetta.compare.results import Worst
from rosetta.workers import VALUES_AT_ONCE, pieces, spread, sum_of_squares

NEIGHBOURS = 2  # values shown on each side of a worst position
SPOTS = 3  # worst positions that are shown

Spot = tuple[Worst, list[float], list[float]]
"""A position, and the left and the right values around it."""


@dataclass(frozen=True)
class Metrics:
    """Difference of two finite tensors of one shape, `b` being the reference; `spots` are the worst positions.

    `scale` is the reference's root mean square; None where both are one value that is not held whole.
    """

    max_diff: float
    mean_diff: float
    rms_diff: float
    rel_l2: float
    cosine: float
    by_token: list[float]
    worst: Worst
    spots: list[Spot]
    scale: float | None = None

    @property
    def rel(self) -> float | None:
        """The largest difference over the reference's root mean square."""
        if self.scale is None:
            return 0.0 if self.max_diff == 0 else None
        return self.max_diff / self.scale if self.scale else (math.inf if self.max_diff else 0.0)

    @property
    def size(self) -> float:
        """Root mean square of the reference, where the two differ."""
        return self.rms_diff / self.rel_l2 if self.rel_l2 else 0.0


def in_figures(metrics: Metrics | None) -> dict[str, Any]:
    """The fields of a `StageDiff` that say how far its two values are apart; none of two that are not comparable."""
    if metrics is None:
        return {}
    names = ("max_diff", "mean_diff", "rms_diff", "rel_l2", "cosine", "scale", "rel", "worst")
    return {**{name: getattr(metrics, name) for name in names}, "by_token": list(metrics.by_token)}


def difference(a: Value, b: Value, left_is_a: bool, token_axis: int = 0) -> Metrics:
    """How far `a` lies from the reference `b`.

    Args:
        a: finite values, any shape with a token axis.
        b: the reference's, same shape, same device.
        left_is_a: whether `a` is the left side, for naming the two values at the worst position.
        token_axis: 0, or 1 in attention scores `[heads, T, T]`.
    """
    shape, count = tuple(b.shape), math.prod(b.shape)
    if a is b:
        zeros = [0.0] * shape[token_axis]
        first = float(_first(b).flatten()[0]) if count else 0.0
        return Metrics(
            *(0.0, 0.0, 0.0, 0.0, 1.0),
            by_token=zeros,
            worst=Worst(index=[0] * len(shape), left=first, right=first),
            spots=[],
            scale=rms(b) if isinstance(b, Tensor) else None,
        )
    parts = [part for some in each_part(lambda x, y: _parts(x, y, token_axis), a, b) for part in some]
    starts = accumulate((part.size for part in parts), initial=0)
    places = [
        _Place(place.gap, start + place.position, place.a, place.b, place.around_a, place.around_b)
        for start, part in zip(starts, parts, strict=False)
        for place in part.places
    ]
    places.sort(key=lambda place: -place.gap)  # the first of equal ones stays the first
    spots = [place.named(shape, left_is_a) for place in places[:SPOTS]]
    squares = math.fsum(part.squares for part in parts)
    norm_a, norm_b = (math.sqrt(math.fsum(getattr(p, f"norm_{x}") for p in parts)) for x in "ab")
    dot = math.fsum(part.dot for part in parts)
    by_token = torch.cat([p.by_token for p in parts]) if token_axis == 0 else _largest(parts)
    return Metrics(
        max_diff=places[0].gap,
        mean_diff=math.fsum(part.total for part in parts) / count,
        rms_diff=math.sqrt(squares / count),
        rel_l2=math.sqrt(squares) / norm_b if norm_b else (math.inf if squares else 0.0),
        cosine=dot / (norm_a * norm_b) if norm_a and norm_b else float(norm_a == norm_b),
        by_token=by_token.tolist(),
        worst=spots[0][0],
        spots=spots,
        scale=norm_b / math.sqrt(count),
    )


@dataclass(frozen=True)
class _Place:
    """A position of a flat tensor, the two values there and those around them in the row."""

    gap: float
    position: int
    a: float
    b: float
    around_a: list[float]
    around_b: list[float]

    def named(self, shape: tuple[int, ...], left_is_a: bool) -> Spot:
        index = [int(i) for i in np.unravel_index(self.position, shape)]  # torch's imports a computer algebra
        if left_is_a:
            return Worst(index=index, left=self.a, right=self.b), self.around_a, self.around_b
        return Worst(index=index, left=self.b, right=self.a), self.around_b, self.around_a


@dataclass(frozen=True)
class _Part:
    """What a few rows of the difference of two tensors add up to; norms are squared."""

    size: int
    places: list[_Place]
    total: float
    squares: float
    norm_a: float
    norm_b: float
    dot: float
    by_token: Tensor


def _parts(a: Tensor, b: Tensor, token_axis: int) -> list[_Part]:
    return spread(lambda rows: _part(a[slice(*rows)], b[slice(*rows)], token_axis), _ranges(a))


def _part(a: Tensor, b: Tensor, token_axis: int) -> _Part:
    gap = (a - b).abs()
    x, y, d = (tensor.flatten().double() for tensor in (a, b, gap))
    return _Part(
        size=gap.numel(),
        places=_places(gap, a, b),
        total=float(d.sum()),
        squares=float(d.square().sum()),
        norm_a=float(x.square().sum()),
        norm_b=float(y.square().sum()),
        dot=float((x * y).sum()),
        by_token=gap.transpose(0, token_axis).flatten(1).amax(1),
    )


def _places(gap: Tensor, a: Tensor, b: Tensor) -> list[_Place]:
    """The positions of the largest differences, the largest first; of equal ones the first."""
    flat, width = gap.flatten(), gap.shape[-1]
    first = int(flat.argmax())
    top = flat.topk(min(SPOTS, len(flat))).indices.tolist()
    found = []
    for position in [first, *(p for p in top if p != first)][:SPOTS]:
        row = position - position % width
        around = slice(max(row, position - NEIGHBOURS), min(row + width, position + NEIGHBOURS + 1))
        (at_a, near_a), (at_b, near_b) = (
            (float(side[position]), side[around].tolist()) for side in (a.flatten(), b.flatten())
        )
        found.append(_Place(float(flat[position]), position, at_a, at_b, near_a, near_b))
    return found


def _largest(parts: list[_Part]) -> Tensor:
    return torch.stack([part.by_token for part in parts]).amax(0)


def _ranges(x: Tensor) -> list[tuple[int, int]]:
    """A tensor cut along its first dimension, (first, after the last), into about `VALUES_AT_ONCE` values each."""
    rows = max(1, VALUES_AT_ONCE // max(1, math.prod(x.shape[1:])))
    return [(start, min(start + rows, len(x))) for start in range(0, len(x), rows)]


def rms(x: Value) -> float:
    """Root mean square."""
    count = math.prod(x.shape)
    return math.sqrt(math.fsum(each_part(sum_of_squares, x)) / count) if count else 0.0


def largest_gap(a: Value, b: Value) -> float:
    """Largest absolute difference of two results on one device."""
    return 0.0 if a is b else max(each_part(lambda x, y: float((x - y).abs().max()), a, b))


def count_nonfinite(x: Tensor) -> int:
    """How many values are NaN or infinite."""
    return sum(spread(_nonfinite, pieces(x)))


def _nonfinite(x: Tensor) -> int:
    bounds = torch.stack(x.aminmax()) if x.numel() else x  # NaN if any value is
    return 0 if bool(bounds.isfinite().all()) else x.numel() - int(x.isfinite().sum())


def ends(x: Value, count: int = 3) -> tuple[list[float], list[float]]:
    """The first and the last values of a stage."""
    last = x.last() if isinstance(x, InParts) else x
    return _first(x).flatten()[:count].tolist(), last.flatten()[-count:].tolist()


def _first(x: Value) -> Tensor:
    return x.first() if isinstance(x, InParts) else x
