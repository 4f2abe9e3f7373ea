"""Codes of a packed weight that lie elsewhere than their scales, and a group index that is another, told by the other
side's values.

Letters: R = rows of the weight, C = its columns, G = groups of columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta.diagnose.hypotheses.permuted import matched
from rosetta.diagnose.orders import LARGEST, NEARER, in_order
from rosetta.diagnose.packed_numbers import Known, PlacedReading, places_of
from rosetta.diagnose.permutations import permutation_in_words

SAMPLED_ROWS = 64  # by which the group of each column is told


def codes_elsewhere(known: Known) -> Iterator[PlacedReading]:
    """Codes that lie in other rows, or in other columns, than their scales."""
    if max(sum(weight.dims[0] for weight, _ in known.pairs), known.packed.columns) > LARGEST:
        return
    read = [(plain.values(), truth.values()) for plain, truth in known.codes()]
    codes, values = (torch.cat(parts) for parts in zip(*read, strict=True))
    order = matched(codes, values)
    if order is not None:
        yield from _of_other_rows(known, order)
    elif not any(weight.transposed or weight.columns is not None for weight, _ in known.pairs):
        order = matched(codes.T, values.T)
        if order is not None:
            yield from _of_other_columns(known, order)


def _of_other_rows(known: Known, order: NDArray[np.int64]) -> Iterator[PlacedReading]:
    packed, stored = known.packed, known.container.part(known.packed.parts["codes"])
    by_row = packed.codes_by_row(stored)
    if by_row is None:
        return
    read = known.read_as(places_of(packed, 1, by_row=False))
    place = torch.cat([own.values()[:, 0] for own, _ in read]).long().numpy()  # where each row is stored
    taken = np.arange(len(by_row))
    taken[place] = place[order]
    moved, stored_rows = in_order(by_row, 0, torch.from_numpy(taken)), np.sort(place)
    said = permutation_in_words(np.searchsorted(stored_rows, taken[stored_rows]), 0, "rows")
    yield PlacedReading(
        known.with_parts(codes=(moved.T if packed.turned else moved).contiguous().view(stored.shape)),
        f"its codes lie in other rows than their scales: {said}",
        f"with the codes of other rows: {said}",
        kind="layout.permuted",
    )


def _of_other_columns(known: Known, order: NDArray[np.int64]) -> Iterator[PlacedReading]:
    """Of codes of which several columns share a word, those that move together."""
    packed, stored = known.packed, known.container.part(known.packed.parts["codes"])
    by_column = stored if packed.turned else stored.reshape(packed.rows, -1).T
    run = len(order) // len(by_column)
    words = order.reshape(-1, run) if run and len(order) == run * len(by_column) else None
    if words is None or len(packed.dims) != 2:
        return
    if bool((words - words[:, :1] != np.arange(run)).any()) or bool((words[:, 0] % run).any()):
        return
    moved = in_order(by_column, 0, torch.from_numpy(words[:, 0] // run))
    said = permutation_in_words(order, 0, "columns")
    yield PlacedReading(
        known.with_parts(codes=(moved if packed.turned else moved.T).contiguous().view(stored.shape)),
        f"its codes lie in other columns than their scales: {said}",
        f"with the codes of other columns: {said}",
        kind="layout.permuted",
    )


def index_elsewhere(known: Known) -> Iterator[PlacedReading]:
    """A group index that says of each column the group whose scales and zero points give the other side's values."""
    name, raw, (weight, truth) = known.packed.parts.get("index"), known.numbers("scales"), known.pairs[0]
    if name is None or raw is None or raw.shape[1] < 2 or weight.transposed or weight.columns is not None:
        return
    groups, first = raw.shape[1], max(0, (weight.dims[0] - SAMPLED_ROWS) // 2)
    rows, index = (first, min(first + SAMPLED_ROWS, weight.dims[0])), known.container.part(name)
    wanted, off = truth.values(*rows), []
    for group in range(groups):
        read = replace(weight, container=known.with_parts(index=torch.full_like(index, group)))
        off.append((read.values(*rows) - wanted).square().sum(0))
    errors = torch.stack(off)  # [G, C]
    found = errors.argmin(0).to(index.dtype)
    here = errors.gather(0, index.long()[None])[0]
    moved = int((found != index).sum())
    if not moved or not float(errors.amin(0).sum()) < NEARER**2 * float(here.sum()):
        return
    yield PlacedReading(
        known.with_parts(index=found),
        f"its group index puts {moved} of {len(index)} columns in another group than their scales are of",
        f"with {moved} of {len(index)} columns in other groups than the group index says",
    )
