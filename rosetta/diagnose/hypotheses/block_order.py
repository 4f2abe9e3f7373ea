"""The nibbles of a quantised group in the other order: pairs 2k, 2k+1 for k, k+n/2, or the reverse
(`dtype.block_order`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, looks_like
from rosetta.diagnose.packed_weights import for_all_of, in_one_tensor, name_of, other_readings, stored_words
from rosetta.diagnose.patches import for_all_names, reading
from rosetta.finding_kind import FindingKind

KINDS = (
    FindingKind(
        "dtype.block_order",
        means="The nibbles of a quantised group stand in the other order: pairs 2k, 2k+1 for halves k, k+n/2, or the "
        "reverse.",
        why="A quantiser packs neighbours into one byte, where GGML packs the low half of a group with the high half "
        "(n is 32 in Q4_0, 64 in Q4_K); or a reader unpacks them so. Every value is there, in the wrong place.",
        repair="The bytes are read with the nibbles in the other order. Pack them as the dtype demands.",
        whole=True,
        together="have their codes in another order than their dtype has, each alike: {actual}",
        of_file="write the {side} side again, its codes in the order that its dtype has",
        alike=True,
    ),
)

# Where a block's nibbles lie, and how many bytes hold one group: dtype -> (first byte, bytes, bytes a group).
# ggml-common.h, block_q4_0 …; a group of n weights takes n/2 bytes.
NIBBLES = {
    "Q4_0": (2, 16, 16),
    "APR_Q4": (2, 16, 16),
    "Q4_1": (4, 16, 16),
    "Q5_0": (6, 16, 16),
    "Q5_1": (8, 16, 16),
    "IQ4_NL": (2, 16, 16),
    "Q4_K": (16, 128, 32),
    "Q5_K": (48, 128, 32),
    "IQ4_XS": (8, 128, 16),
    "MXFP4": (1, 16, 16),
    "NVFP4": (4, 32, 8),
}
PAIRED, HALVED = "pairs 2k, 2k+1", "halves k, k+n/2"


@dataclass(frozen=True)
class Reordered:
    """Bytes whose nibbles are brought from one order into the other.

    Args:
        dtype: of the blocks.
        to_halves: from pairs to halves; else the reverse.
    """

    dtype: str
    to_halves: bool

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        first, count, group = NIBBLES[self.dtype]
        block = blocks.block_format(self.dtype).type_size
        out = data[: len(data) // block * block].reshape(-1, block).copy()
        packed = out[:, first : first + count].reshape(len(out), -1, group)  # [blocks, groups, bytes]
        low, high = packed & 15, packed >> 4
        if self.to_halves:  # byte k held weights 2k and 2k+1
            weights = np.stack([low, high], axis=-1).reshape(*packed.shape[:2], 2 * group)
            low, high = weights[..., :group], weights[..., group:]
        else:  # byte k held weights k and k + n/2
            weights = np.concatenate([low, high], axis=-1)
            low, high = weights[..., 0::2], weights[..., 1::2]
        out[:, first : first + count] = (low | high << 4).reshape(len(out), -1)
        return np.concatenate([out.reshape(-1), data[out.size :]])


def propose(fault: Fault) -> Iterator[Proposal]:
    """Both reorderings of each accused weight whose dtype packs nibbles, and the other order of a scheme's codes."""
    yield from _of_schemes(fault)
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if weight.dtype not in NIBBLES:
            continue
        for to_halves in (True, False):
            edit = Reordered(weight.dtype, to_halves)
            candidate = replace(weight, bytes_edit=edit)
            if other is not None and not looks_like(candidate, other):
                continue
            found, wanted = (PAIRED, HALVED) if to_halves else (HALVED, PAIRED)
            yield Proposal(
                kind="dtype.block_order",
                role=suspect.role,
                repair=Repair(patches=for_all_names(suspect.model, weight, reading(bytes_edit=edit))),
                tensor=weight.name,
                declared=weight.dtype,
                actual=found,
                message=f"{weight.name} is {weight.dtype} with its nibbles in {found}",
                recommendation=f"pack the nibbles of {weight.entry.name} as {weight.dtype} does, in {wanted}",
            )


def _of_schemes(fault: Fault) -> Iterator[Proposal]:
    """The codes of a quantised folder's weights in the other order within a byte."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        for way, candidate in other_readings(weight):
            read = replace(weight, container=candidate)
            if not way.swapped or (other is not None and not looks_like(read, other)):
                continue
            patch = reading(container=candidate)
            for weights in in_one_tensor(fault, suspect, weight):
                yield Proposal(
                    kind="dtype.block_order",
                    role=suspect.role,
                    repair=Repair(patches=for_all_of(suspect.model, weights, patch)),
                    tensor=name_of(weights),
                    declared=weight.entry.dtype,
                    actual=stored_words(way),
                    message=f"{name_of(weights)} is packed as {weight.entry.dtype}, and {stored_words(way)}",
                    recommendation=f"pack the codes of {weight.entry.name} in the order that its scheme has",
                )
