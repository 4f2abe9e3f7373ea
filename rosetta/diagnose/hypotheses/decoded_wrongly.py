"""Values that a converter decoded wrongly from the packed weight of the other side (`config.quantization`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, looks_like
from rosetta.diagnose.packed_weights import NIBBLES, DecodedAnew, decoded_words, is_packed, other_readings
from rosetta.diagnose.patches import changed


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each accused weight that no scheme packed, and whose counterpart, read wrongly, is what it holds."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims or is_packed(weight):
            continue
        for way, wrong in other_readings(other):
            if not looks_like(weight, wrong):
                continue
            said = decoded_words(way)
            yield Proposal(
                kind="dtype.block_order" if way == NIBBLES else "config.quantization",
                role=suspect.role,
                repair=changed(suspect.model, weight, DecodedAnew(other, wrong, way.scales != "as stored")),
                tensor=weight.name,
                declared=other.entry.dtype,
                actual=said,
                message=f"{weight.name} is the other side's {other.entry.dtype} decoded {said}",
                recommendation=f"convert {weight.entry.name} again, its codes decoded as their scheme says",
            )
