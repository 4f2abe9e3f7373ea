"""The scales of a packed weight that belong elsewhere, or are lost, told by those that the other side's values ask for.

Letters: R = rows of the weight, n = rows of its scales, G = groups of columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rosetta.blocks.schemes.bitsandbytes import BlockWeight
from rosetta.diagnose.orders import NEARER, distance, in_order, order_in_words, order_of
from rosetta.diagnose.packed_numbers import (
    Known,
    PlacedReading,
    Scales,
    in_words,
    logarithm,
    of_another,
    scales_of,
)
from rosetta.diagnose.permutations import permutation_in_words
from rosetta.diagnose.zero_places import lost, wanted_biases, wanted_zeros

NEARER_FLOAT = 2.0**-4  # of a logarithm: scales told from the codes are off by less
MIXED_UP = {"F16": torch.bfloat16, "BF16": torch.float16}


def scales_elsewhere(known: Known, scales: Scales) -> Iterator[PlacedReading]:
    """Scales of other rows, of other groups, of another weight, of another float, or lost."""
    own, wanted, raw, rows = scales.own, scales.wanted, scales.raw, scales.rows
    if not len(rows):
        return
    held = raw.float()[rows]
    number = float(held.max())
    if number == float(held.min()):
        if raw.numel() > 1:
            yield from _lost(known, scales, f"all {number:g}", "without its scales")
        elif number == 1:
            yield from _lost(known, scales, "1", "without its scale")
        return
    packed, off = known.packed, distance(wanted[rows], own[rows])
    height = -(-packed.rows // packed.scale_rows)
    if distance(wanted, _across(own)) < NEARER * off and all(
        way.scales != "transposed" for way in packed.ways
    ):
        yield from _reordered(known, "rows", "they lie by column and row", _across)
    # Before rows: where scales are powers of two, another expert's are its own in some order of rows as well.
    yield from _of_another_expert(known, scales, off)
    yield from _of_another(known, scales, off)
    order = order_of(own[rows].T, wanted[rows].T)
    if order is not None:
        index, said = torch.from_numpy(order), permutation_in_words(order, 0, "groups")
        yield from _reordered(known, "groups", said, lambda by_row: in_order(by_row, 1, index))
    order = order_of(own[rows], wanted[rows], known.matrices)
    if order is not None:
        index = torch.arange(len(raw))
        index[rows] = rows[torch.from_numpy(order)]
        things, said = order_in_words(order, known.matrices, height)
        yield from _reordered(known, things, said, lambda by_row: in_order(by_row, 0, index))
    yield from _of_another_float(known, scales)


def _across(by_row: Tensor) -> Tensor:
    """Numbers that were written column by column, [n, G]."""
    return by_row.reshape(by_row.shape[1], by_row.shape[0]).T


def _reordered(
    known: Known, things: str, said: str, moved: Callable[[Tensor], Tensor]
) -> Iterator[PlacedReading]:
    """The scales in another order, with what goes with them and alone."""
    for parts in dict.fromkeys([("scales", *known.beside_scales), ("scales",)]):
        held = {part: known.numbers(part) for part in parts}
        yield PlacedReading(
            known.with_numbers(
                **{part: moved(numbers) for part, numbers in held.items() if numbers is not None}
            ),
            f"its {in_words(parts)} belong to other {things}: {said}",
            f"with the {in_words(parts)} of other {things}: {said}",
        )


def _lost(
    known: Known, scales: Scales, said: str, decoded: str, whole: bool = False
) -> Iterator[PlacedReading]:
    """Scales in whose place others stand, so that the codes' own are told from the other side's values.

    Args:
        known, scales: the weight's.
        said: what its scales are now.
        decoded: see `PlacedReading`.
        whole: whether what goes with the scales is so, too.
    """
    packed, by_row = known.packed, scales.raw
    times = scales.asked / scales.size
    times = torch.where(times.isfinite(), times, 1.0)
    if by_row.dtype == torch.uint8:
        if isinstance(packed, BlockWeight) and packed.nested:
            found = _in_table(known, packed, by_row, times)
        else:
            found = (by_row.float() + times.log2()).round().clamp(0, 254).to(torch.uint8)
    else:
        found = by_row.float() * times
    if "biases" in known.beside_scales:
        yield lost(known, scales, {"scales": _beside_biases(known, scales, found)}, said, decoded)
    for parts in dict.fromkeys([("scales",), ("scales", *known.beside_scales)]):
        others = {"scales": found}
        if "biases" in parts:
            others["biases"] = wanted_biases(known, scales, found)
        if "zeros" in parts:
            others["zeros"] = wanted_zeros(known, scales, scales.asked).round()
        yield lost(known, scales, others, said, decoded, whole)


def _beside_biases(known: Known, scales: Scales, found: Tensor) -> Tensor:
    """The scales by which the means of codes come to those of the other side's values, if the biases are right: nearer
    than slopes are, of eight bits by far; where no code tells, those that are given."""
    bias = known.numbers("biases")
    assert bias is not None
    mean = scales.codes - bias.float() / scales.raw.float()  # of the codes themselves
    beside = (scales.values - bias.float()) / mean
    return torch.where(beside.isfinite(), beside, found)


def _in_table(known: Known, packed: BlockWeight, by_row: Tensor, times: Tensor) -> Tensor:
    """Nested magnitudes that are so many times those of some rows, as numbers of their table, uint8 [n, G]."""
    table, outer = (
        known.container.part(packed.parts[part]).float() for part in ("outer_levels", "outer_scales")
    )
    number = by_row.flatten().long()
    size = outer[torch.arange(len(number)) // packed.nested]
    wanted = (table[number] * size + packed.offset) * times.flatten()
    return (
        ((wanted - packed.offset) / size)[:, None]
        .sub(table)
        .abs()
        .argmin(1)
        .to(torch.uint8)
        .view(by_row.shape)
    )


def _of_another_expert(known: Known, scales: Scales, off: float) -> Iterator[PlacedReading]:
    """The scales of another matrix of a stack."""
    slot, raw = known.pairs[0][0].slot, scales.raw
    if slot is None or len(raw) % slot[1]:
        return
    (which, count), logs = slot, _log(raw)
    high = len(raw) // count
    own = slice(which * high, (which + 1) * high)
    size, wanted = (scales.own - logs)[own].nanmedian(), scales.wanted[own]
    far = [math.inf if e == which else distance(wanted, logs[e * high :][:high] + size) for e in range(count)]
    same = [
        e
        for e in range(count)
        if e != which and torch.equal(raw[e * high :][:high].float(), raw[own].float())
    ]
    best = min(range(count), key=far.__getitem__)
    if same and off > NEARER_FLOAT:
        yield from _lost(
            known, scales, f"those of expert {same[0]}", f"with the scales of expert {same[0]}", True
        )
    elif far[best] < NEARER * off:
        index = torch.arange(len(raw))
        index[own] = torch.arange(best * high, (best + 1) * high)
        said = f"those of expert {which} lie at expert {best}"
        yield from _reordered(known, "experts", said, lambda by_row: in_order(by_row, 0, index))


def _of_another(known: Known, scales: Scales, off: float) -> Iterator[PlacedReading]:
    """The scales of another weight: of another expert, another layer, or the one beside it."""
    size = (scales.own - _log(scales.raw)).nanmedian()
    best: tuple[float, Known] | None = None
    for other in known.alike():
        numbers = other.numbers("scales")
        if numbers is None or numbers.shape != scales.raw.shape or numbers.dtype != scales.raw.dtype:
            continue
        if torch.equal(numbers.float(), scales.raw.float()) and off > NEARER_FLOAT:
            name = other.packed.name
            yield from _lost(known, scales, f"those of {name}", f"with the scales of {name}", True)
            return
        far = distance(scales.wanted, _log(numbers) + size)
        if far < NEARER * off and (best is None or far < best[0]):
            best = far, other
    if best is None:
        return
    other = best[1]
    both = _asks_for(other, scales.raw)
    for parts in dict.fromkeys([("scales", *known.beside_scales), ("scales",)]):
        yield of_another(known, other, parts, both)


def _asks_for(known: Known, raw: Tensor) -> bool:
    """Whether a weight's codes ask for other scales than its own, as they are stored."""
    scales = scales_of(known) if known.pairs else None
    if scales is None:
        return False
    size = (scales.own - _log(scales.raw)).nanmedian()
    return distance(scales.wanted, _log(raw) + size) < NEARER * distance(scales.wanted, scales.own)


def _log(raw: Tensor) -> Tensor:
    """Logarithms of scales; of exponents of two, which bytes are, themselves."""
    return raw.float() * math.log(2) if raw.dtype == torch.uint8 else logarithm(raw.float())


def _of_another_float(known: Known, scales: Scales) -> Iterator[PlacedReading]:
    """Scales that are F16 under the name of BF16, or the reverse."""
    name = known.packed.parts["scales"]
    declared = known.container.stored.tensors[name].dtype
    if declared not in MIXED_UP or name in known.container.others:  # a repair has put others in their place
        return
    found = known.container.part(name).contiguous().view(MIXED_UP[declared])
    by_row = known.packed.scales_by_row(found)
    if by_row is None or not distance(scales.wanted, _log(by_row)) < NEARER_FLOAT:
        return
    actual = "BF16" if declared == "F16" else "F16"
    yield PlacedReading(
        known.with_parts(scales=found),
        f"its scales are declared {declared} and hold {actual}",
        f"with scales of {actual} read as {declared}",
        kind="dtype.mislabeled",
    )
