"""In which order a file holds the rows of a weight: of heads, of rotary pairs within them, of groups; and which of a
fused tensor's rows are its own.

An order gives for each canonical row the file's row. Letters: a, b = an outer and an inner count of groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

INTERLEAVED, SPLIT_HALF = 0, 2
"""Orders of the rotary rows of Q and K, as `.apr` numbers them after ggml's GGML_ROPE_TYPE_*."""


@dataclass(frozen=True)
class RowOrder:
    """How the rotary rows of each head are reordered: from the file's order into the canonical one.

    Args:
        head_size: rows of one head.
        rotated: how many of them are rotated, the first ones.
        source: the file's order, 0 interleaved or 2 split-half; the canonical order is the other.
    """

    head_size: int
    rotated: int
    source: int

    def index(self, rows: int) -> NDArray[np.int64]:
        """For each canonical row the file's row; rows that fill no whole head stay."""
        rotated = min(self.rotated, self.head_size)  # a config may claim more than a head has
        pairs = rotated // 2
        if self.source == INTERLEAVED:  # canonical: first all even rows, then all odd ones
            head = [*range(0, 2 * pairs, 2), *range(1, 2 * pairs, 2)]
        else:  # canonical: row j beside row j + pairs
            head = [row for j in range(pairs) for row in (j, j + pairs)]
        head += range(2 * pairs, self.head_size)
        heads = rows // self.head_size
        index = np.add.outer(np.arange(heads) * self.head_size, np.array(head, dtype=np.int64)).ravel()
        return np.concatenate([index, np.arange(heads * self.head_size, rows)])


@dataclass(frozen=True)
class Part:
    """Which rows of a stored tensor a weight is: of each group of rows the same part.

    Args:
        which: of the parts of a group, counted from 0.
        sizes: rows of each part of a group.
        groups: how many groups there are. One: the parts are the thirds, say, of the whole tensor. As many as heads:
            the rows of each head of q, k and v lie beside each other (GPT-NeoX). As many as rows of a part: the parts
            lie row beside row (the gate and up projections of gpt-oss).
        also: parts whose rows come behind those of the first one, each of all groups.
    """

    which: int
    sizes: tuple[int, ...]
    groups: int = 1
    also: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Rows of the whole tensor."""
        return self.groups * sum(self.sizes)

    @property
    def count(self) -> int:
        """Rows of the part."""
        return self.groups * sum(self.sizes[which] for which in (self.which, *self.also))

    @property
    def first(self) -> int:
        """Its first row in a group."""
        return sum(self.sizes[: self.which])

    def index(self) -> NDArray[np.int64]:
        """For each of its rows the row of the whole tensor."""
        starts = np.arange(self.groups, dtype=np.int64) * sum(self.sizes)
        rows = [
            np.add.outer(
                starts + sum(self.sizes[:which]), np.arange(self.sizes[which], dtype=np.int64)
            ).ravel()
            for which in (self.which, *self.also)
        ]
        return np.concatenate(rows)


class Order(Protocol):
    """Another order of rows or columns."""

    def index(self, rows: int) -> NDArray[np.int64]:
        """For each canonical row the one it is of the part."""
        ...


@dataclass(frozen=True)
class GroupOrder:
    """Groups of rows laid out `[a, b]` in the file and `[b, a]` canonically: heads by the key they share, or by turns.

    Args:
        outer, inner: a and b.
        size: rows of one group.
    """

    outer: int
    inner: int
    size: int

    def index(self, rows: int) -> NDArray[np.int64]:
        """For each canonical row the file's row; rows that fill no whole set of groups stay."""
        whole = self.outer * self.inner * self.size
        one = (
            np.arange(whole, dtype=np.int64).reshape(self.outer, self.inner, self.size).swapaxes(0, 1).ravel()
        )
        sets = rows // whole if whole else 0  # of a config that counts none
        index = np.add.outer(np.arange(sets, dtype=np.int64) * whole, one).ravel()
        return np.concatenate([index, np.arange(sets * whole, rows)])


@dataclass(frozen=True)
class WithinRows:
    """An order that concerns some of the rows only.

    Args:
        start, stop: these rows.
        order: of them.
    """

    start: int
    stop: int
    order: RowOrder | GroupOrder

    def index(self, rows: int) -> NDArray[np.int64]:
        """For each canonical row the file's row."""
        index = np.arange(rows, dtype=np.int64)
        start, stop = min(self.start, rows), min(self.stop, rows)  # fewer than the config's sizes ask for
        index[start:stop] = start + self.order.index(stop - start)
        return index


@dataclass(frozen=True)
class Chosen:
    """Some rows of all, for a weight that has no others.

    Args:
        rows: of the whole tensor.
    """

    rows: tuple[int, ...]

    def index(self, rows: int) -> NDArray[np.int64]:
        """For each row the file's row."""
        return np.array(self.rows, dtype=np.int64)
