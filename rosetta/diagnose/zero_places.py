"""Zero points, or biases, of a packed weight that are lost or belong elsewhere, told by the other side's values.

Letters: n = rows of its scales, G = groups of columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from rosetta.diagnose.orders import NEARER, distance, in_order, order_in_words, order_of
from rosetta.diagnose.packed_numbers import Known, PlacedReading, Scales, in_words, of_another, scales_of
from rosetta.diagnose.permutations import permutation_in_words

Part = Literal["zeros", "biases"]
APART = 0.5  # of a code: zero points are apart by one at least


def zeros_elsewhere(known: Known, scales: Scales) -> Iterator[PlacedReading]:
    """Zero points that are lost, or those of other rows, other groups or another weight; the scales are right."""
    part: Part
    for part in ("zeros", "biases"):
        held = known.numbers(part)
        if held is None or not len(scales.rows):
            continue
        own, wanted, rows = held.float(), _wanted(known, scales, part), scales.rows
        off = distance(wanted[rows], own[rows])
        if part == "zeros" and off < APART / held.shape[1] ** 0.5 / len(rows) ** 0.5:
            continue
        yield from _lost_or_one(known, scales, part, wanted)
        yield from _of_another(known, part, wanted, off)
        yield from _in_other_places(known, scales, part, wanted)


def _wanted(known: Known, scales: Scales, part: Part) -> Tensor:
    """What is asked for where the scales are right, [n, G]."""
    if part == "biases":
        return wanted_biases(known, scales, scales.raw.float())
    return wanted_zeros(known, scales, scales.size)


def wanted_zeros(known: Known, scales: Scales, size: Tensor) -> Tensor:
    """The zero points that the other side's values ask for, as they are stored, not rounded, [n, G].

    Args:
        known, scales: the weight's.
        size: what its codes are multiplied with.
    """
    held = known.numbers("zeros")
    assert held is not None
    wanted = held.float() + scales.codes - scales.values / size
    if known.packed.zeros_packed:
        wanted = wanted.remainder(1 << known.packed.code_bits)
    return torch.where(wanted.isfinite(), wanted, held.float())


def wanted_biases(known: Known, scales: Scales, found: Tensor) -> Tensor:
    """The amounts that the other side's values have beside codes times scales, where the weight is seen, [n, G]."""
    held = known.numbers("biases")
    assert held is not None
    held = held.float()
    amount = scales.values - found * (scales.codes - held / scales.raw.float())
    return torch.where(amount.isfinite(), amount, held)


def _lost_or_one(known: Known, scales: Scales, part: Part, wanted: Tensor) -> Iterator[PlacedReading]:
    """Numbers that are all one where others are asked for, and zero points that are others where all are to be one."""
    held, rows = known.numbers(part), scales.rows
    assert held is not None
    found = wanted.round() if part == "zeros" else wanted
    least, most = (float(x) for x in held.float()[rows].aminmax())
    asked = float(found[rows].median())
    if least == most:
        yield lost(known, scales, {part: found}, f"all {most:g}", f"with other {in_words([part])}")
    elif part == "zeros" and distance(wanted[rows], torch.full_like(wanted[rows], asked)) < APART:
        one, meant = held.clone(), known.packed.zero_point(int(asked))
        one[rows] = int(asked)
        yield PlacedReading(
            known.with_numbers(zeros=one),
            f"its zero points are others than {meant}, with which all its codes were made",
            f"as if all its zero points were {meant}",
        )


def lost(
    known: Known,
    scales: Scales,
    others: Mapping[str, Tensor],
    said: str,
    decoded: str,
    whole: bool = False,
) -> PlacedReading:
    """A weight whose numbers are lost, read with those that the other side's values ask for.

    Args:
        known, scales: the weight's.
        others: numbers in the place of its own, by part.
        said: what those of the first part are.
        decoded: see `PlacedReading`.
        whole: whether that is said of the further parts as well.
    """
    count, total = len(scales.rows) * scales.raw.shape[1], scales.raw.numel()
    first, *more = others
    words = [
        f"its {in_words([*others] if whole else [first])} are {said}" if total > 1 else f"its scale is {said}"
    ]
    if not whole:
        words += [f"its {in_words([part])} {_all_one(known, part) or 'others than its own'}" for part in more]
    those = (
        "those that its codes were made with are" if total > 1 else "the one that its codes were made with is"
    )
    return PlacedReading(
        known.with_numbers(**others),
        f"{', '.join(words)}: {those} lost",
        decoded,
        from_reference=f"{count} of {total} {in_words([*others])}",
    )


def _all_one(known: Known, part: str) -> str | None:
    """`all 0`, where a part holds one number."""
    held = known.numbers(part)
    least, most = (0.0, 1.0) if held is None else (float(x) for x in held.float().aminmax())
    return f"all {most:g}" if least == most else None


def _of_another(known: Known, part: Part, wanted: Tensor, off: float) -> Iterator[PlacedReading]:
    """Those of another layer's weight, or of the one beside it."""
    held, best = known.numbers(part), None
    for other in known.alike():
        numbers = other.numbers(part)
        if held is None or numbers is None or numbers.shape != held.shape:
            continue
        far = distance(wanted, numbers.float())
        if far < NEARER * off and (best is None or far < best[0]):
            best = far, other
    if best is None or held is None:
        return
    nearest = best[1]
    theirs = scales_of(nearest) if nearest.pairs else None
    both = False
    if theirs is not None and (own := nearest.numbers(part)) is not None:
        asked = _wanted(nearest, theirs, part)
        both = distance(asked, held.float()) < NEARER * distance(asked, own.float())
    yield of_another(known, nearest, [part], both)


def _in_other_places(known: Known, scales: Scales, part: Part, wanted: Tensor) -> Iterator[PlacedReading]:
    """Those of other groups, and those of other rows."""
    held, rows = known.numbers(part), scales.rows
    assert held is not None
    own = held.float()[rows]
    order = order_of(own.T, wanted[rows].T)
    if order is not None:
        moved = in_order(held, 1, torch.from_numpy(order))
        yield _moved(known, part, moved, f"groups: {permutation_in_words(order, 0, 'groups')}")
    order = order_of(own, wanted[rows], known.matrices)
    if order is not None:
        index = torch.arange(len(held))
        index[rows] = rows[torch.from_numpy(order)]
        height = -(-known.packed.rows // known.packed.scale_rows)
        things, order_said = order_in_words(order, known.matrices, height)
        yield _moved(known, part, in_order(held, 0, index), f"{things}: {order_said}")


def _moved(known: Known, part: Part, numbers: Tensor, where: str) -> PlacedReading:
    said = in_words([part])
    return PlacedReading(
        known.with_numbers(**{part: numbers}),
        f"its {said} belong to other {where}",
        f"with the {said} of other {where}",
    )
