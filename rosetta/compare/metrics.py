"""Plain functions of two results: how far apart they are, and where. Accumulated in float64.

Letters: T = tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rosetta.compare.results import Worst
from rosetta.workers import spread

NEIGHBOURS = 2  # values shown on each side of a worst position
AT_ONCE = 1 << 20  # values judged at a time, whatever the length of the prompt: 8 MiB in float64


@dataclass(frozen=True)
class Metrics:
    """Difference of two finite tensors of one shape, `b` being the reference."""

    max_diff: float
    mean_diff: float
    rms_diff: float
    rel_l2: float
    cosine: float
    by_token: list[float]
    worst: Worst


def difference(a: Tensor, b: Tensor, left_is_a: bool, token_axis: int = 0) -> Metrics:
    """How far `a` lies from the reference `b`.

    Args:
        a: finite values, any shape with a token axis.
        b: the reference's, same shape, same device.
        left_is_a: whether `a` is the left side, for naming the two values at the worst position.
        token_axis: 0, or 1 in attention scores `[heads, T, T]`.
    """
    if a is b:
        zeros = [0.0] * a.shape[token_axis]
        first = float(b.flatten()[0]) if b.numel() else 0.0
        index = [0] * b.dim()
        return Metrics(0.0, 0.0, 0.0, 0.0, 1.0, zeros, Worst(index=index, left=first, right=first))
    parts = spread(lambda rows: _part(a[slice(*rows)], b[slice(*rows)], token_axis), _ranges(a))
    peak = max(part.max_diff for part in parts)
    position, offset = 0, 0
    for part in parts:
        if part.max_diff == peak:
            position = offset + part.position
            break
        offset += part.size
    squares = math.fsum(part.squares for part in parts)
    norm_a, norm_b = (math.sqrt(math.fsum(getattr(p, f"norm_{x}") for p in parts)) for x in "ab")
    dot = math.fsum(part.dot for part in parts)
    by_token = torch.cat([p.by_token for p in parts]) if token_axis == 0 else _largest(parts)
    va, vb = float(a.flatten()[position]), float(b.flatten()[position])
    return Metrics(
        max_diff=peak,
        mean_diff=math.fsum(part.total for part in parts) / a.numel(),
        rms_diff=math.sqrt(squares / a.numel()),
        rel_l2=math.sqrt(squares) / norm_b if norm_b else (math.inf if squares else 0.0),
        cosine=dot / (norm_a * norm_b) if norm_a and norm_b else float(norm_a == norm_b),
        by_token=by_token.tolist(),
        worst=Worst(index=_index(position, a), left=va if left_is_a else vb, right=vb if left_is_a else va),
    )


@dataclass(frozen=True)
class _Part:
    """What a few rows of the difference of two tensors add up to; norms are squared."""

    size: int
    max_diff: float
    position: int
    total: float
    squares: float
    norm_a: float
    norm_b: float
    dot: float
    by_token: Tensor


def _part(a: Tensor, b: Tensor, token_axis: int) -> _Part:
    gap = (a - b).abs()
    position = int(gap.argmax())
    x, y, d = (tensor.flatten().double() for tensor in (a, b, gap))
    return _Part(
        size=gap.numel(),
        max_diff=float(gap.flatten()[position]),
        position=position,
        total=float(d.sum()),
        squares=float(d.square().sum()),
        norm_a=float(x.square().sum()),
        norm_b=float(y.square().sum()),
        dot=float((x * y).sum()),
        by_token=gap.transpose(0, token_axis).flatten(1).amax(1),
    )


def _largest(parts: list[_Part]) -> Tensor:
    return torch.stack([part.by_token for part in parts]).amax(0)


def _ranges(x: Tensor) -> list[tuple[int, int]]:
    """A tensor cut along its first dimension, (first, after the last), into about `AT_ONCE` values each."""
    rows = max(1, AT_ONCE // max(1, math.prod(x.shape[1:])))
    return [(start, min(start + rows, len(x))) for start in range(0, len(x), rows)]


def rms(x: Tensor) -> float:
    """Root mean square."""
    squares = math.fsum(spread(lambda part: float(part.double().square().sum()), _pieces(x)))
    return math.sqrt(squares / x.numel()) if x.numel() else 0.0


def count_nonfinite(x: Tensor) -> int:
    """How many values are NaN or infinite."""
    return sum(spread(_nonfinite, _pieces(x)))


def _nonfinite(x: Tensor) -> int:
    bounds = torch.stack(x.aminmax()) if x.numel() else x  # NaN if any value is
    return 0 if bool(bounds.isfinite().all()) else x.numel() - int(x.isfinite().sum())


def ends(x: Tensor, count: int = 3) -> tuple[list[float], list[float]]:
    """The first and the last values of a stage."""
    flat = x.flatten()
    return [float(v) for v in flat[:count]], [float(v) for v in flat[-count:]]


def worst_positions(
    a: Tensor, b: Tensor, left_is_a: bool, count: int = 3
) -> list[tuple[Worst, list[float], list[float]]]:
    """The positions of the largest differences, each with the values around it: (position, left's, right's).
    What is one tensor for both sides has none."""
    if a is b:
        return []
    left, right = (a, b) if left_is_a else (b, a)
    found = []
    for position in _largest_gaps(a.flatten(), b.flatten(), count):
        index = _index(position, a)
        row_start = position - index[-1]
        around = slice(
            max(row_start, position - NEIGHBOURS), min(row_start + a.shape[-1], position + NEIGHBOURS + 1)
        )
        values = [[float(v) for v in side.flatten()[around]] for side in (left, right)]
        at = Worst(index=index, left=float(left.flatten()[position]), right=float(right.flatten()[position]))
        found.append((at, values[0], values[1]))
    return found


def _pieces(x: Tensor) -> Iterator[Tensor]:
    """The values in order, `AT_ONCE` at a time."""
    flat = x.flatten()
    return (flat[start : start + AT_ONCE] for start in range(0, len(flat), AT_ONCE))


def _largest_gaps(a: Tensor, b: Tensor, count: int) -> list[int]:
    """Positions of the largest differences of two flat tensors, the largest first."""

    def largest(number: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gap = (x - y).abs()
        top = gap.topk(min(count, gap.numel()))
        return top.values, top.indices + number * AT_ONCE

    pieces = list(zip(_pieces(a), _pieces(b), strict=True))
    found = spread(lambda number: largest(number, *pieces[number]), range(len(pieces)))
    gaps, positions = [gap for gap, _ in found], [position for _, position in found]
    if not gaps:
        return []
    best = torch.cat(gaps).topk(min(count, a.numel())).indices if len(gaps) > 1 else slice(None)
    return [int(position) for position in torch.cat(positions)[best].tolist()]


def _index(position: int, x: Tensor) -> list[int]:
    """Where a flat position lies (numpy's function: torch's imports a computer algebra system)."""
    return [int(i) for i in np.unravel_index(position, x.shape)]
