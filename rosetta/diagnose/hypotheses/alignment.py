"""A GGUF file that does not state the alignment that it was written with (`layout.shifted`, of all its tensors
at once)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.containers.gguf.reader import GgufContainer
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.errors import DamagedFileError
from rosetta.model import Patch
from rosetta.weight import Weight

KEY = "general.alignment"
ALIGNMENTS = [1 << power for power in range(3, 17)]  # bytes: from a word to the largest page


def propose(fault: Fault) -> Iterator[Proposal]:
    """The alignments that put another place's bytes where the stage's weights are looked for."""
    for suspect in (fault.subject, fault.reference):
        container = suspect.model.container
        if not isinstance(container, GgufContainer) or not (fault.recorded or _has_strange(fault, suspect)):
            continue
        for realigned in _realigned(container):
            patch = _reading(container, realigned)
            name = _brought_right(fault, suspect, patch)
            if name is not None:
                yield _proposal(suspect, name, container, realigned, patch)


def _has_strange(fault: Fault, suspect: Suspect) -> bool:
    """Whether a weight of the stage is not the other side's as it is read: the header is not read anew for less."""
    names = (
        name for name in fault.names() if name in suspect.model.weights and name in suspect.other.weights
    )
    return any(not looks_like(suspect.model.weights[name], suspect.other.weights[name]) for name in names)


def _realigned(container: GgufContainer) -> Iterator[GgufContainer]:
    """The file as other alignments have it, one for each place where its data may begin: that of the least alignment.

    The offsets in the header must be those that such an alignment gives: a reader notes where they are not.
    """
    seen = {min(container.data_starts.items())}
    for alignment in ALIGNMENTS:
        try:
            other = container.aligned(alignment)
        except DamagedFileError:
            continue  # the tensors would end behind the file
        start = min(other.data_starts.items())
        if start not in seen and len(other.notes) <= len(container.notes):
            seen.add(start)
            yield other


def _reading(container: GgufContainer, realigned: GgufContainer) -> Patch:
    """The patch that reads a weight of a file as another alignment has it."""

    def patch(found: Weight | None) -> Weight | None:
        if found is None or found.container is not container:
            return found
        return replace(found, container=realigned, entry=realigned.tensors[found.entry.name])

    return patch


def _brought_right(fault: Fault, suspect: Suspect, patch: Patch) -> str | None:
    """The first weight of the stage that looks like the other side's with the patch; of a recorded run, the first one,
    as the rerun says."""
    if fault.recorded:
        own = (name for name in fault.names() if name in suspect.model.weights)
        return next(own, None) if suspect.role == "subject" else None
    for name in fault.names():
        stored, truth = suspect.model.weights.get(name), suspect.other.weights.get(name)
        if stored is None or truth is None:
            continue
        mended = patch(stored)
        if mended is not None and mended != stored and looks_like(mended, truth):
            return None if looks_like(stored, truth) else name
    return None


def _proposal(
    suspect: Suspect, name: str, container: GgufContainer, realigned: GgufContainer, patch: Patch
) -> Proposal:
    stated, right = container.metadata.get(KEY), realigned.header.alignment
    path, (before, after) = container.path, (min(c.data_starts.values()) for c in (container, realigned))
    where = f"{abs(after - before)} bytes {'later' if after > before else 'earlier'}"
    said = "is not stated, which means 32" if stated is None else f"is {stated}"
    return Proposal(
        kind="layout.shifted",
        role=suspect.role,
        repair=Repair(patches=dict.fromkeys(suspect.model.weights, patch)),
        tensor=name,
        key=KEY,
        declared=stated,
        actual=right,
        message=f"{name} and all other data of {path} begin {where}, where an alignment of {right} puts them: {KEY} "
        f"{said}",
        recommendation=f"write {KEY} {right} (UINT32) into {path}",
    )
