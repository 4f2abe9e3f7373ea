"""Two copies of a matrix seen in one pass of compiled loops, where numba is installed and so many weights repay it.

What is seen is what `row_sums.pass_over` sees, within the rounding of float32; the stage's products are made in the
same pass. Letters: R = rows, C = columns, G = groups of a row.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta import blocks, kernels
from rosetta.blocks.floats import by_power
from rosetta.compare.row_sums import PassedRows
from rosetta.compare.sample_loops import SampleLoops
from rosetta.weight import WEIGHTS_AT_ONCE, Weight, row_ranges
from rosetta.weight_cache import DecodedPair, Sample
from rosetta.workers import spread

COLUMNS_OF_GROUP = 32  # of sums that nobody asks for
# Weights of a call: fewer, and calls take longer than their work. A matrix has two at least, for two cores.
OF_CALL, LEAST_CALLS = 1 << 22, 2
AT_ONCE = 1 << 14  # weights that are at hand at a time: with two copies and the variance 192 KiB


class OnePass:
    """Compiled loops over two copies, with memory of each thread's own; `of_sample` are those over sampled rows."""

    def __init__(self) -> None:
        self._loops: Any = import_module("rosetta.kernels.one_pass")
        self._run = kernels.compiled(self._loops.SIGNATURE, self._loops.one_pass)
        self._own = threading.local()
        self.of_sample = SampleLoops()

    def ranges(self, weight: Weight, kept: DecodedPair) -> list[tuple[int, int]]:
        """The rows of a matrix, cut into those of a call each; where rows are kept, into those that others ask for."""
        if _keeps_whole(kept) or weight.count <= WEIGHTS_AT_ONCE:
            return row_ranges(weight)
        calls = max(LEAST_CALLS, -(-weight.count // OF_CALL))
        return row_ranges(weight, -(-weight.dims[0] // calls) * weight.dims[1])

    def pass_over(
        self,
        reference: Weight,
        other: Weight,
        rows: tuple[int, int],
        kept: DecodedPair,
        group: int,
        proportional: bool,
    ) -> PassedRows:
        """See some rows of two matrices, and do with them what `kept` wants.

        Args:
            reference, other: the copies.
            rows: first, after the last.
            kept: takes what was decoded.
            group, proportional: as for `row_sums.pass_over`.
        """
        count, columns, products = rows[1] - rows[0], reference.dims[1], kept.products
        multiplied = None if products is None else products.for_loops
        whole = _keeps_whole(kept)
        tile = self._tile(count, columns, whole)
        x, y = multiplied or (np.empty((0, 0, columns), np.float32),) * 2
        wanted, place, sample = _rows_of(None if whole else kept.sample, rows, columns)
        of_groups = torch.empty(2, count, -(-columns // group))
        of_rows = torch.empty(5, count, dtype=torch.float64)
        bits = self._run(
            self._given(reference, rows, "reference"),
            self._given(other, rows, "other"),
            group,
            proportional,
            rows[0],
            x,
            y,
            wanted,
            place,
            sample,
            tile,
            self._memory("power", (columns,), np.float32),
            of_groups.numpy(),
            of_rows.numpy(),
        )
        if whole:
            kept.put(rows, *torch.from_numpy(tile))
        elif products is not None:
            products.note(rows, torch.tensor(bits, dtype=torch.int32).view(torch.float32))
        gap, size_a, size_b, product, spread = of_rows
        summed = (product, spread) if proportional else (None, None)
        return PassedRows(of_groups[0], of_groups[1], gap, size_a, size_b, *summed)

    def multiply(self, reference: Weight, other: Weight, kept: DecodedPair) -> None:
        """Make the products that `kept` awaits of two matrices that were compared before."""
        kept.start(reference, other)
        group = min(COLUMNS_OF_GROUP, reference.dims[1])
        ranges = self.ranges(reference, kept)
        spread(lambda rows: self.pass_over(reference, other, rows, kept, group, False), ranges)

    def _tile(self, count: int, columns: int, whole: bool) -> NDArray[np.float32]:
        """What takes decoded rows, [3, rows, columns]: all of them, to be kept, or the few that are at hand."""
        if whole:
            return np.empty((3, count, columns), np.float32)
        at_once = min(count, max(2, AT_ONCE // columns // 2 * 2))
        return self._memory("tile", (3, at_once, columns), np.float32)

    def _given(self, weight: Weight, rows: tuple[int, int], side: str) -> Any:
        """Some rows of a copy as the loops take them."""
        loops, (count, columns) = self._loops, (rows[1] - rows[0], weight.dims[1])
        block, levels = blocks.block_format(weight.dtype), kernels.levels_of(weight.dtype)
        raw = None if weight.values_edits else weight.raw(*rows)
        if raw is not None and weight.dtype in self._forms:
            form, field, element = self._forms[weight.dtype]
            factor, floor = by_power(weight.dtype)
            bits = np.ascontiguousarray(raw).view(element)
            return self._copy(
                form, columns, factor=np.float32(factor), floor=np.float32(floor), **{field: bits}
            )
        if raw is None or levels is None or block.affine is None or columns % block.block_size:
            given = torch.stack(weight.values_and_variance(*rows))
            return self._copy(loops.VALUES, columns, given=given.numpy())
        stored = np.ascontiguousarray(raw).reshape(-1, block.type_size)
        unpacked = self._memory(f"levels of {side}", (count * columns,), np.int8)
        levels(stored, unpacked, kernels.RUN)
        scale, minimum, unit, constant = block.affine(torch.from_numpy(stored))
        affine = torch.stack([scale, torch.zeros_like(scale) if minimum is None else minimum, constant])
        return self._copy(
            loops.LEVELS,
            columns,
            levels=unpacked.reshape(count, columns),
            affine=affine.view(3, count, -1).numpy(),
            unit=unit.reshape(count, -1).numpy(),
        )

    @property
    def _forms(self) -> dict[str, tuple[int, str, type[np.generic]]]:
        """By dtype what a float copy is given as, in which field, by which elements."""
        loops = self._loops
        return {
            "F32": (loops.F32, "words", np.int32),
            "F16": (loops.F16, "halves", np.uint16),
            "BF16": (loops.BF16, "halves", np.uint16),
        }

    def _copy(self, form: int, columns: int, **fields: Any) -> Any:
        """A copy of which some fields are known."""
        empty = {
            "levels": np.empty((0, columns), np.int8),
            "halves": np.empty((0, columns), np.uint16),
            "words": np.empty((0, columns), np.int32),
            "given": np.empty((2, 0, columns), np.float32),
            "affine": np.empty((3, 0, 1), np.float32),
            "unit": np.empty((0, 1), np.float32),
            "factor": np.float32(0),
            "floor": np.float32(0),
        }
        return self._loops.Copy(form, **(empty | fields))

    def _memory(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Memory of this thread, which is used again: fresh memory costs more than what is done with it."""
        held, size = self._own.__dict__, math.prod(shape)
        if name not in held or held[name].size < size:
            held[name] = np.empty(size, dtype)
        found: NDArray[Any] = held[name][:size]
        return found.reshape(shape)


def _keeps_whole(kept: DecodedPair) -> bool:
    """Whether decoded rows are to be handed on, and not only what is seen of them."""
    products = kept.products
    return kept.keeps_rows or (products is not None and products.for_loops is None)


def _rows_of(
    sample: Sample | None, rows: tuple[int, int], columns: int
) -> tuple[NDArray[np.int64], int, tuple[NDArray[np.float32], ...]]:
    """What a sample wants of some rows; see `Sample.wanted`."""
    if sample is not None:
        return sample.wanted(rows)
    return np.empty(0, np.int64), 0, (np.empty((0, columns), np.float32),) * 3


@cache
def _loaded() -> OnePass:
    return OnePass()


def one_pass(weights: int) -> OnePass | None:
    """Loops that compare so many weights of two unlike copies; None where numba is not installed, or takes longer to
    load than they save."""
    return _loaded() if kernels.repaid(weights) else None
