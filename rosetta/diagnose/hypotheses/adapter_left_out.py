"""A tensor, or rows of one, that an adapter was trained with as a whole, of which the other side has the base's
(`adapter.merge`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.adapted import is_replaced, merge_of, without_merge
from rosetta.compare.pairing import other_role
from rosetta.diagnose.hypotheses.known_adapter import CERTAIN, CLOSE, Exchanged, times_merged
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed

TAKES_FROM_REFERENCE = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The adapter's tensor in the place of the base's."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims:
            continue
        trained, plain = (weight, other) if is_replaced(weight) else (other, weight)
        if not is_replaced(trained) or is_replaced(plain) or merge_of(trained) is not None:
            continue
        base = without_merge(trained)
        times, error = times_merged(plain, trained, base)
        if abs(times) > max(CERTAIN * error, CLOSE):
            continue
        side = fault.side(suspect.role if plain is weight else other_role(suspect.role))
        change = Exchanged(base, trained) if plain is weight else Exchanged(trained, base)
        yield Proposal(
            kind="adapter.merge",
            role=suspect.role,
            repair=changed(suspect.model, weight, change),
            tensor=weight.name,
            actual="left out, what it was trained with as a whole",
            message=f"{weight.name}: what the adapter has in its place, trained as a whole, is not in the {side} file, "
            "which holds the base's",
            recommendation=f"put the adapter's own {weight.entry.name} (modules_to_save, trainable tokens, biases) in "
            "the place of the base's, as merge_and_unload does, and export again",
            from_reference="no number: what the adapter itself holds",
        )
