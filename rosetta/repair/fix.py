"""What is to be repaired, as every writer of a repaired file takes it, and the tensors made anew for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosetta.compare.results import Finding
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.diagnose.one_stack import stack_of
from rosetta.model import Model
from rosetta.repair.changes import ABSENT, Change
from rosetta.repair.copying import LARGEST_SHARE, refusal
from rosetta.repair.encode import Holds, encoded
from rosetta.repair.layout import Layout
from rosetta.repair.names import fused
from rosetta.repair.planned import Planned
from rosetta.repair.repacked import repacked

TAKEN = re.compile(r"(?:all )?(\d+) (?:of|weights|numbers|values)\b")  # how evidence begins: what was taken


@dataclass(frozen=True)
class Fix:
    """A file and what is wrong with it.

    Args:
        base: the model as its file holds it.
        repaired: with all confirmed repairs in place.
        other: the other side, likewise.
        settings: canonical settings that the repaired file states in place of the file's own.
        layout: the tensors of the repaired file.
        findings: the confirmed causes.
        vocabulary: facts of the tokenizer that are to be exchanged, by their GGUF key.
        allow_copy: whether most of the repaired file may come from the other one.
    """

    base: Model
    repaired: Model
    other: Model
    settings: Mapping[str, Any]
    layout: Layout
    findings: Sequence[Finding]
    vocabulary: Mapping[str, Any] = field(default_factory=dict)
    allow_copy: bool = False


@dataclass
class Written:
    """What a writer did.

    Args:
        changes: what is otherwise than in the file that was repaired.
        unsaid: canonical settings that the container has no place for.
        notes: what else is to be known, one sentence each.
        copied: number of tensors whose bytes were copied untouched.
    """

    changes: list[Change] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copied: int = 0


class NothingWritten(Exception):
    """A file would only be a copy: it has no place for what is to be repaired."""


def refuse_a_plain_copy(written: Written) -> None:
    """Keep a writer from writing a file that says nothing otherwise.

    Raises:
        NothingWritten: nothing is changed, and something is not said.
    """
    if written.unsaid and not written.changes:
        raise NothingWritten


def remade(fix: Fix, holds: Holds, written: Written) -> Iterator[TensorInput]:
    """The tensors that a repair concerns, one at a time, each noted as a change.

    Args:
        fix: what is to be repaired.
        holds: what the file to be written can hold.
        written: where the changes are noted.

    Raises:
        UsageError: too much of the file would come from the other one: that is a copy of it, and no repair.
    """
    total = taken = 0
    source = str(fix.other.container.path)
    for planned in fix.layout.tensors:
        if planned.is_copied:
            written.copied += 1
            total += 0 if planned.original is None else planned.original.nbytes
            continue
        parts = repacked(planned, fix.base.container)
        if parts is not None:
            why = "; ".join(_why(planned, fix.findings, source))
            for stored, part in parts:
                written.changes.append(Change(part.name, shape(stored), shape(part), why))
                total += part.data.nbytes
                yield part
            continue
        found = encoded(planned, holds, fix.other.weights, fix.base.container)
        before = ABSENT if planned.original is None else shape(planned.original)
        notes = _why(planned, fix.findings, source)
        if found.taken:
            own = planned.held[0].weight.dtype
            much = "all of it" if found.taken == 1 else f"{found.taken:.0%} of it"
            notes.append(
                f"{much} from {source}: {own} cannot say the repaired values without rounding them again"
            )
        written.changes.append(Change(planned.name, before, shape(found.tensor), "; ".join(notes)))
        size = found.tensor.data.nbytes
        total += size
        taken += round(size * (found.taken or _share_taken(planned, fix.findings, Path(source))))
        yield found.tensor
    for own in fix.layout.dropped:
        written.changes.append(Change(own, shape(fix.base.container.tensors[own]), ABSENT))
    if taken > LARGEST_SHARE * total and fix.allow_copy:
        written.notes.append(f"{taken / total:.0%} of the tensors' bytes are a copy of {source}")
    elif taken > LARGEST_SHARE * total:
        raise refusal(taken / total, fix.base, source)


def _share_taken(planned: Planned, findings: Sequence[Finding], source: Path) -> float:
    """How much of a remade tensor comes from the other file, 0 to 1."""
    if all(held.weight.container.path == source for held in planned.held):
        return 1.0
    count = sum(held.weight.count for held in planned.held)
    said = [f.evidence.from_reference for f in _about(planned, findings) if f.evidence is not None]
    begun = [TAKEN.match(text) for text in said if text]
    weights = sum(count if found is None else int(found[1]) for found in begun)  # what is not told may be all
    return min(1.0, weights / max(1, count))


def _about(planned: Planned, findings: Sequence[Finding]) -> list[Finding]:
    """The findings about a tensor, or about the fused one that it is part of."""
    names = {held.weight.name for held in planned.held}
    names |= {stack for name in names if (stack := stack_of(name))}
    names |= {fused(name) for name in names}
    return [f for f in findings if f.tensor in names or f.partner in names]


def shape(tensor: TensorEntry | TensorInput) -> str:
    """A tensor in words: `F16 [1536, 256]`."""
    return f"{tensor.dtype} {list(tensor.dims)}"


def _why(planned: Planned, findings: Sequence[Finding], source: str) -> list[str]:
    """The kinds of the findings about a tensor, and what their repairs took from the other file."""
    found = {f.kind: f for f in _about(planned, findings)}
    taken = {kind: f.evidence.from_reference for kind, f in found.items() if f.evidence is not None}
    notes = [kind + (f": {taken[kind]} from {source}" if taken.get(kind) else "") for kind in found]
    if not notes and all(held.weight.container.path == Path(source) for held in planned.held):
        notes.append(f"from {source}")
    return notes
