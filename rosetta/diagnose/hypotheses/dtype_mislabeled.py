"""Bytes of one dtype declared as another that takes as many: BF16 as F16 first of all (`dtype.mislabeled`)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

import torch

from rosetta import blocks
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import for_all_names, reading
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch, misfit
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "dtype.mislabeled",
        means="The bytes of a tensor are of another dtype than the file says.",
        why="BF16 is tagged F16 on import; the dtype tables of writer and reader disagree on a number; or a dtype is "
        "guessed from the byte count, which Q4_0 and Q4_K share.",
        repair="The bytes are decoded as the dtype that they are. Declare that, or convert them.",
        whole=True,
    ),
)

STACKED = re.compile(r"(blk\.\d+\.\w+)\.\d+\.weight$")
SAMPLED_ROWS = 64
LIKENESS = 0.8  # correlation of some rows with the other side's
LARGEST_PADDING = 64  # bytes between two tensors of a GGUF file: its alignment is 32 by default
SAME_BUT_FOR_ORDER = frozenset({"Q4_0", "APR_Q4"})  # that is `dtype.block_order`


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other dtypes that fit the byte count of each accused weight, those that resemble the other side first."""
    seen: set[str] = set()
    for suspect, weight in fault.accused_weights(unreadable=True):
        if weight.slot is not None and weight.entry.name in seen:
            continue  # experts of one stored tensor, which has one dtype
        seen.add(weight.entry.name)
        other = suspect.counterpart(weight)
        candidates = list(_other_dtypes(weight))
        if other is not None and other.dims == weight.dims:
            scored = [(_distance(candidate, other), candidate) for candidate in candidates]
            now = math.inf if misfit(weight) else _distance(weight, other)
            # With another fault behind it, a factor or a NaN, the right dtype may be no nearer, and still be alike.
            candidates = [
                c
                for distance, c in sorted(scored, key=lambda pair: pair[0])
                if distance < now or looks_like(c, other, LIKENESS, either_sign=True)
            ]
        for candidate in candidates:
            own, declared, actual = weight.entry.name, weight.entry.dtype, candidate.dtype
            patches, tensor = _of_the_stored(suspect, weight, candidate)
            yield Proposal(
                kind="dtype.mislabeled",
                role=suspect.role,
                repair=Repair(patches=patches),
                tensor=tensor,
                declared=declared,
                actual=actual,
                message=f"{tensor} is declared {declared}, and its bytes are {actual}",
                recommendation=f"write {own} with the dtype of its bytes, {actual}, or convert them to {declared}",
            )


def _of_the_stored(suspect: Suspect, weight: Weight, candidate: Weight) -> tuple[dict[str, Patch], str]:
    """The patches that read all of a stored tensor as the candidate's dtype, and what it is called: a dtype is that of
    all experts stacked in it."""
    patch = reading(dtype=candidate.dtype, entry=candidate.entry)
    found = STACKED.match(weight.name)
    if weight.slot is None or found is None:
        return for_all_names(suspect.model, weight, patch), weight.name
    stacked = [name for name, held in suspect.model.weights.items() if held.entry is weight.entry]
    return dict.fromkeys(stacked, patch), f"{found[1]}.weight"


def _other_dtypes(weight: Weight) -> Iterator[Weight]:
    for dtype, block in blocks.FORMATS.items():
        if (
            dtype == weight.dtype
            or {dtype, weight.dtype} <= SAME_BUT_FOR_ORDER
            or block.write_sigma is None
            or block.block_size == 0
        ):
            continue
        size, room = blocks.nbytes(dtype, weight.stored_dims), weight.entry.room
        if room is None and size == weight.nbytes:
            yield replace(weight, dtype=dtype)
        elif room is not None and weight.slot is None and 0 <= room - size < LARGEST_PADDING:
            yield replace(weight, dtype=dtype, entry=replace(weight.entry, nbytes=size, room=None))


def _distance(candidate: Weight, other: Weight) -> float:
    """Mean |difference| over the first rows, each value weighed by the other side's size; inf where not finite."""
    a, b = candidate.values(0, SAMPLED_ROWS), other.values(0, SAMPLED_ROWS)
    gap = (a - b).abs().mean() / b.abs().mean().clamp_min(torch.finfo(torch.float32).tiny)
    return float(gap) if torch.isfinite(gap) else float("inf")
