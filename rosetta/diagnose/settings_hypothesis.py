"""What all hypotheses about one setting share: the reference's value in place of the subject's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rosetta.compare.pairing import Role
from rosetta.compare.settings import plain
from rosetta.config import Value
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.rope_scaling import RopeScaling

# Settings that the shapes of weights or the reading of the file hang on: any stage may show them.
BY_SHAPE = frozenset(
    {
        "architecture",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
        "block_count",
        "feed_forward_length",
        "embedding_length",
        "tied_embeddings",
    }
)


def setting_hypothesis(kind: str, *keys: str) -> Callable[[Fault], Iterator[Proposal]]:
    """A hypothesis: the subject has another value of one of these keys, and the stage reads it.

    Args:
        kind: the finding kind.
        keys: canonical config keys.
    """

    def propose(fault: Fault) -> Iterator[Proposal]:
        for key, (own, believed) in fault.changed_settings().items():
            if key not in keys or not (key in fault.keys or key in BY_SHAPE):
                continue
            yield setting_proposal(fault, kind, key, own, believed)
            other = fault.reference
            if any(
                other.model.contradiction(name) for name in fault.names()
            ):  # the believed file denies itself
                yield setting_proposal(fault, kind, key, other.model.config[key], own.value, "reference")

    return propose


def setting_proposal(
    fault: Fault, kind: str, key: str, own: Value, right: Any, role: Role = "subject"
) -> Proposal:
    """The proposal that a key of one side have the other side's value."""
    said, wanted = shown(own.value), shown(right)
    container = (fault.subject if role == "subject" else fault.reference).model.container
    spelled = own.key or key
    recommendation = f"write {spelled} {wanted} into the {container.label} file instead of {said}"
    if own.defaulted:
        recommendation = (
            f"write {spelled} {wanted} into the {container.label} file: without it, {own.note} is {said}"
        )
    other = "the reference" if role == "subject" else "the other side"
    return Proposal(
        kind=kind,
        role=role,
        repair=Repair(overrides={key: right}),
        key=key,
        declared=None if own.defaulted else plain(own.value),
        actual=plain(right),
        message=f"{key} is {said}{f' ({own.note})' if own.defaulted else ''}, {other} computes with {wanted}",
        recommendation=recommendation,
    )


def shown(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, RopeScaling):
        factors = (
            f"factors {min(value.factors):.6g} to {max(value.factors):.6g}" if value.factors else "no factors"
        )
        return factors + (f", magnitude {value.magnitude:.6g}" if value.magnitude != 1 else "")
    if value is None:
        return "none"
    return f"{plain(value):.8g}" if isinstance(value, float) else str(value)
