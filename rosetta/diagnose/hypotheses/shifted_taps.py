"""Taps of a convolution that stand some places too early or too late in each channel (`layout.shifted`).

Letters: R = channels, K = taps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.diagnose.edits import FromOther
from rosetta.diagnose.hypotheses.permuted import CONVOLUTION, ColumnsTaken
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import changed, of_weights
from rosetta.model import both
from rosetta.weight import Weight

MOST_TAPS = 16
LIKENESS = 0.9  # correlation of what both sides hold of the taps, moved into place
SAMPLED_CHANNELS = 4096


def propose(fault: Fault) -> Iterator[Proposal]:
    """The number of places by which each accused convolution must be moved to resemble the other side's."""
    if fault.recorded:
        return
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or not CONVOLUTION.match(weight.name) or not _has_taps(weight, other):
            continue
        places = places_moved(weight.values(0, SAMPLED_CHANNELS), other.values(0, SAMPLED_CHANNELS))
        if places is not None:
            yield _moved(suspect, weight, other, places)


def _has_taps(weight: Weight, other: Weight) -> bool:
    return weight.dims == other.dims and len(weight.dims) == 2 and 1 < weight.dims[1] <= MOST_TAPS


def places_moved(own: Tensor, other: Tensor) -> int | None:
    """By how many places one's taps stand too late (below 0: too early); None where no move brings them together.

    Args:
        own, other: [R, K].
    """
    taps = own.shape[1]
    for places in sorted((n for n in range(-(taps // 2), taps // 2 + 1) if n), key=abs):
        a, b = (
            own[:, max(places, 0) : taps + min(places, 0)],
            other[:, max(-places, 0) : taps - max(places, 0)],
        )
        if _correlation(a, b) > LIKENESS:
            return places
    return None


def _correlation(a: Tensor, b: Tensor) -> float:
    x, y = a.double().flatten(), b.double().flatten()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size > 0 else 0.0


def _moved(suspect: Suspect, weight: Weight, other: Weight, places: int) -> Proposal:
    """The taps back in place; those that the move cut off are what came in at the other end, where it went round,
    else they are the other side's."""
    taps = weight.dims[1]
    back = torch.arange(taps) + places
    lost = (back < 0) | (back >= taps)
    repair = changed(suspect.model, weight, ColumnsTaken(back % taps))
    round_ = _correlation(
        weight.values(0, SAMPLED_CHANNELS)[:, back % taps], other.values(0, SAMPLED_CHANNELS)
    )
    taken = None
    if round_ < LIKENESS:
        whole = FromOther(
            other, lambda start, values: lost.to(values.device).expand_as(values), (0, weight.dims[0])
        )
        second = changed(suspect.model, weight, whole)
        patches = {name: both(repair.patches[name], patch) for name, patch in second.patches.items()}
        repair = type(repair)(patches=patches)
        taken = of_weights(int(lost.sum()) * weight.dims[0], weight.count)
    where = f"{abs(places)} place{'s' if abs(places) > 1 else ''} too {'late' if places > 0 else 'early'}"
    return Proposal(
        kind="layout.shifted",
        role=suspect.role,
        repair=repair,
        tensor=weight.name,
        actual=places,
        message=f"{weight.name} holds the taps of each channel {where}"
        + (", those that fall off at one end come in at the other" if taken is None else ""),
        recommendation=f"write {weight.entry.name} with the oldest tap of each channel first, moved by none",
        from_reference=taken,
    )
