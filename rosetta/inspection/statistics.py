"""Statistics of one tensor, read and decoded a piece at a time: memory does not grow with the tensor.

Letters: n = weights of a piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rosetta import blocks
from rosetta.compare.results import Number, Result
from rosetta.containers.container import Container, TensorEntry
from rosetta.lazily import torch
from rosetta.lint.bounds import suspicious

PIECE = 1 << 22  # weights: 16 MiB as float32
FIRST = 4  # values shown

# Trained matrices have heavier tails than the random numbers that they began with: SmolLM2-135M's 210 have a kurtosis
# of 3.12 to 26, normal ones of n values 3 ± √(24 / n), uniform ones 1.8.
NORMAL, UNIFORM, SPREAD = 3.0, 1.8, 4.0
ROUNDED = 0.02  # what quantising adds to a kurtosis
LEAST_VALUES = 10_000  # below these the spread of a kurtosis is wider than its distance from a trained one's


class TensorStatistics(Result):
    """What a tensor's values look like; the moments are of the finite values, null where there are none."""

    min: Number | None
    """Smallest finite value."""
    max: Number | None
    """Largest finite value."""
    mean: Number | None
    """Mean."""
    std: Number | None
    """Standard deviation."""
    zeros: int
    """Values that are exactly zero."""
    nan: int
    """Values that are NaN."""
    inf: int
    """Values that are infinite."""
    first: list[Number]
    """The first four values."""
    kurtosis: Number | None = None
    """Fourth central moment over the squared variance: 3 of random numbers, more of trained matrices."""
    mark: str | None = None
    """Why the tensor is suspicious; null when it is not."""


@dataclass
class _Moments:
    """Running moments of finite values; pieces are joined by Chan, Golub and LeVeque 1979, eq. 2.1."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean
    shift: float = 0.0  # mean of the first piece, from which the powers are taken
    powers: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # sums of the distance from it to 1 … 4
    min: float = math.inf
    max: float = -math.inf

    def add(self, values: torch.Tensor) -> None:
        """Join a piece, float32 [n], all finite."""
        count = values.numel()
        if not count:
            return
        exact = values.double()
        mean = float(exact.mean())
        self.shift = self.shift if self.count else mean
        away = exact - self.shift
        squared = away * away
        self.powers = tuple(  # type: ignore[assignment]
            before + float(more.sum())
            for before, more in zip(
                self.powers, (away, squared, squared * away, squared * squared), strict=True
            )
        )
        gap, total = mean - self.mean, self.count + count
        self.squares += float((exact - mean).square().sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total
        self.min, self.max = min(self.min, float(values.min())), max(self.max, float(values.max()))

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count)

    @property
    def rms(self) -> float:
        return math.hypot(self.mean, self.std)

    @property
    def kurtosis(self) -> float | None:
        """Fourth central moment over the squared variance: 3 of a normal distribution; None of a constant."""
        m, m2, m3, m4 = (power / self.count for power in self.powers)
        variance = m2 - m * m
        if variance <= 1e-12 * m2 or not variance:
            return None
        return (m4 - 4 * m * m3 + 6 * m * m * m2 - 3 * m**4) / variance**2


def tensor_statistics(
    container: Container, entry: TensorEntry, name: str | None = None
) -> TensorStatistics | None:
    """Statistics of a tensor's values.

    Args:
        container: the open file or folder.
        entry: the tensor.
        name: its canonical name; the file's own where there is none.

    Returns:
        None where the dtype is none that can be decoded, or the file holds no bytes of the tensor.
    """
    if not blocks.decodes(entry.dtype) or not entry.nbytes:
        return None
    moments, zeros, nan, inf = _Moments(), 0, 0, 0
    first: list[float] = []
    for values in _pieces(container, entry):
        first += values[: FIRST - len(first)].tolist()
        finite = values.isfinite()
        zeros += int((values == 0).sum())
        nan += int(values.isnan().sum())
        inf += int(values.isinf().sum())
        moments.add(values if bool(finite.all()) else values[finite])
    some = moments.count > 0
    return TensorStatistics(
        min=moments.min if some else None,
        max=moments.max if some else None,
        mean=moments.mean if some else None,
        std=moments.std if some else None,
        zeros=zeros,
        nan=nan,
        inf=inf,
        first=first,
        kurtosis=moments.kurtosis if some else None,
        mark=_mark(name or entry.name, moments, nan + inf),
    )


def _pieces(container: Container, entry: TensorEntry) -> Iterator[torch.Tensor]:
    """A tensor's values in order, float32 [n], at most about `PIECE` at a time."""
    block, count = blocks.block_format(entry.dtype), math.prod(entry.dims)
    if not block.block_size:  # one scale before all values
        scale = container.read(entry.name, 0, block.type_size)
        for start in range(0, count, PIECE):
            weights = min(PIECE, count - start)
            raw = np.concatenate([scale, container.read(entry.name, block.type_size + start, weights)])
            yield blocks.decode(entry.dtype, torch.from_numpy(raw), [weights])
        return
    columns = entry.dims[-1] if entry.dims else 1
    if len(entry.dims) > 1 and columns % block.block_size:
        # Rows may be padded: read whole, as rare as it is small.
        yield blocks.decode(entry.dtype, torch.from_numpy(container.read(entry.name)), entry.dims).flatten()
        return
    step = PIECE // block.block_size * block.block_size
    for start in range(0, count, step):
        weights = min(step, count - start)
        size = -(-weights // block.block_size) * block.type_size
        raw = container.read(entry.name, start // block.block_size * block.type_size, size)
        yield blocks.decode(entry.dtype, torch.from_numpy(raw), [weights])


def _mark(name: str, moments: _Moments, nonfinite: int) -> str | None:
    if nonfinite:
        return f"{nonfinite} values are NaN or Inf"
    if not moments.count:
        return None
    return suspicious(name, moments.std, moments.rms)


def untrained(tensors: Iterable[tuple[Sequence[int], TensorStatistics | None]]) -> str | None:
    """A note where most matrices are spread as random numbers are, and hence nothing was trained; None else.

    Args:
        tensors: dims and statistics of every tensor.
    """
    matrices = [
        (math.prod(dims), found.kurtosis) for dims, found in tensors if found is not None and len(dims) > 1
    ]
    judged = [(n, k) for n, k in matrices if k is not None and n >= LEAST_VALUES]
    random = sum(
        min(abs(k - NORMAL), abs(k - UNIFORM)) <= SPREAD * math.sqrt(24 / n) + ROUNDED for n, k in judged
    )
    if not judged or 2 * random <= len(judged):
        return None
    return f"{random} of {len(judged)} matrices are spread as random numbers are: the model was never trained"
