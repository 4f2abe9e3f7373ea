"""Statistics of one tensor, read and decoded a piece at a time: memory does not grow with the tensor.

Letters: n = weights of a piece.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from rosetta import blocks
from rosetta.compare.results import Number, Result
from rosetta.containers.container import Container, TensorEntry

PIECE = 1 << 22  # weights: 16 MiB as float32
FIRST = 4  # values shown

# Outside these a weight is suspicious: a shifted, mislabelled or zeroed tensor nearly always is.
EMBEDDING_STD = (0.005, 0.5)
NORM_MAGNITUDE = (0.01, 100.0)
# GGUF's names, and those of Hugging Face's llama and GPT-2 families.
EMBEDDING = re.compile(r"(^|[._])(token_embd|position_embd|embed_tokens|embed_positions|wte|wpe)(\.weight)?$")
NORM = re.compile(r"(norm|\bln_\w+)\.weight$")


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
    mark: str | None = None
    """Why the tensor is suspicious; null when it is not."""


@dataclass
class _Moments:
    """Running moments of finite values; pieces are joined by Chan, Golub and LeVeque 1979, eq. 2.1."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean
    min: float = math.inf
    max: float = -math.inf
    smallest: float = math.inf  # magnitude

    def add(self, values: torch.Tensor) -> None:
        """Join a piece, float32 [n], all finite."""
        count = values.numel()
        if not count:
            return
        exact = values.double()
        mean = float(exact.mean())
        gap, total = mean - self.mean, self.count + count
        self.squares += float((exact - mean).square().sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total
        self.min, self.max = min(self.min, float(values.min())), max(self.max, float(values.max()))
        self.smallest = min(self.smallest, float(values.abs().min()))

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count)


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
    if entry.dtype not in blocks.FORMATS or not entry.nbytes:
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
    if (
        len(entry.dims) > 1 and columns % block.block_size
    ):  # rows may be padded: whole, as rare as it is small
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
    low, high = EMBEDDING_STD
    if EMBEDDING.search(name) and not low <= moments.std <= high:
        return f"an embedding's std is {low} to {high}, this is {moments.std:.4g}"
    low, high = NORM_MAGNITUDE
    largest = max(abs(moments.min), abs(moments.max))
    if NORM.search(name) and not (low <= moments.smallest and largest <= high):
        return f"a norm's magnitudes are {low} to {high:g}, these are {moments.smallest:.4g} to {largest:.4g}"
    return None
