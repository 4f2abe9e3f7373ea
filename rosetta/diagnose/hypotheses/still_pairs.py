"""Rotary pairs of a fourth position, which llama.cpp leaves unturned in a text (`config.rope_sections`): what its code
decides, and no file is at fault for."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.compare.settings import plain
from rosetta.diagnose.advice import named_pairs
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.model import Model
from rosetta.ops.rotary import SECTIONS, STILL


def propose(fault: Fault) -> Iterator[Proposal]:
    """The pairs that the other side turns, where both have the same sections."""
    own, right = fault.subject.model, fault.subject.other
    if STILL not in fault.keys or STILL not in own.config or STILL not in right.config:
        return
    if own[STILL] == right[STILL] or own[SECTIONS] != right[SECTIONS]:
        return
    yield Proposal(
        kind="config.rope_sections",
        role="subject",
        repair=Repair(overrides={STILL: right[STILL]}),
        key=STILL,
        declared=None,
        actual=right[STILL],
        message=f"{_sentence(right, own)}; {_sentence(own, right)}",
        recommendation=f"run {_turning(own, right).container.path}: llama.cpp computes so of any file with such "
        "sections, and neither file is at fault",
    )


def _turning(first: Model, second: Model) -> Model:
    """The side that turns more pairs."""
    return first if len(first[STILL]) < len(second[STILL]) else second


def _sentence(model: Model, other: Model) -> str:
    """What a side does with the pairs in which both differ."""
    pairs = named_pairs({*model[STILL]} ^ {*other[STILL]})
    if _turning(model, other) is model:
        return f"{model.container.path} turns {pairs}"
    sections = plain(model[SECTIONS])
    return (
        f"llama.cpp turns no {pairs} in a text of {model.container.path}, whose {model.config[SECTIONS].key} "
        f"{sections} leaves such to a fourth position"
    )
