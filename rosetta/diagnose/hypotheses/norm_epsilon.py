"""Another epsilon in the normalisation (`config.norm_epsilon`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's epsilon, where the stage normalises and the two differ."""
    subject = fault.subject
    key = subject.model.architecture.epsilon_key
    if key not in fault.op.keys or key not in subject.other.config:
        return
    own, right = subject.model.config[key], subject.other[key]
    if own.value == right:
        return
    spelled = own.key or key
    source = f" ({own.note})" if own.defaulted else ""
    yield Proposal(
        kind="config.norm_epsilon",
        role="subject",
        repair=Repair(overrides={key: right}),
        key=key,
        declared=None if own.defaulted else own.value,
        actual=right,
        message=f"{key} is {own.value:.8g}{source}, the reference computes with {right:.8g}",
        recommendation=f"write {spelled} {right:.8g}"
        + (f"; {own.note or 'a default'} is {own.value:.8g}" if own.defaulted else f" instead of {own.value:.8g}"),
    )
