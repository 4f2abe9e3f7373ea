"""Plain functions of two results: how far apart they are, and where. Accumulated in float64.

Letters: T = tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rosetta.compare.results import Worst

NEIGHBOURS = 2  # values shown on each side of a worst position


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
    gap = (a - b).abs()
    size = gap.numel()
    by_token = gap.transpose(0, token_axis).flatten(1).amax(1).tolist()
    position = int(gap.argmax())
    index = _index(position, gap)
    squares = float(gap.flatten().double().square().sum())
    norm_a, norm_b = (math.sqrt(float(x.flatten().double().square().sum())) for x in (a, b))
    dot = float((a.flatten().double() * b.flatten().double()).sum())
    va, vb = float(a.flatten()[position]), float(b.flatten()[position])
    return Metrics(
        max_diff=float(gap.flatten()[position]),
        mean_diff=float(gap.double().mean()),
        rms_diff=math.sqrt(squares / size),
        rel_l2=math.sqrt(squares) / norm_b if norm_b else (math.inf if squares else 0.0),
        cosine=dot / (norm_a * norm_b) if norm_a and norm_b else float(norm_a == norm_b),
        by_token=by_token,
        worst=Worst(index=index, left=va if left_is_a else vb, right=vb if left_is_a else va),
    )


def rms(x: Tensor) -> float:
    """Root mean square."""
    return math.sqrt(float(x.flatten().double().square().mean())) if x.numel() else 0.0


def count_nonfinite(x: Tensor) -> int:
    """How many values are NaN or infinite."""
    return int(x.numel() - torch.isfinite(x).sum())


def ends(x: Tensor, count: int = 3) -> tuple[list[float], list[float]]:
    """The first and the last values of a stage."""
    flat = x.flatten()
    return [float(v) for v in flat[:count]], [float(v) for v in flat[-count:]]


def worst_positions(
    a: Tensor, b: Tensor, left_is_a: bool, count: int = 3
) -> list[tuple[Worst, list[float], list[float]]]:
    """The positions of the largest differences, each with the values around it: (position, left's, right's)."""
    left, right = (a, b) if left_is_a else (b, a)
    gap = (a - b).abs().flatten()
    found = []
    for position in gap.topk(min(count, gap.numel())).indices.tolist():
        index = _index(position, a)
        row_start = position - index[-1]
        around = slice(
            max(row_start, position - NEIGHBOURS), min(row_start + a.shape[-1], position + NEIGHBOURS + 1)
        )
        values = [[float(v) for v in side.flatten()[around]] for side in (left, right)]
        at = Worst(index=index, left=float(left.flatten()[position]), right=float(right.flatten()[position]))
        found.append((at, values[0], values[1]))
    return found


def _index(position: int, x: Tensor) -> list[int]:
    """Where a flat position lies (numpy's function: torch's imports a computer algebra system)."""
    return [int(i) for i in np.unravel_index(position, x.shape)]
