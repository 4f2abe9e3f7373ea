"""A tensor that a folder holds and a flag of its config.json denies: transformers leaves it out (`value.missing`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.advice import write_setting
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.names import canonical_names, without_numbers
from rosetta.tensor_flags import left_out


def propose(fault: Fault) -> Iterator[Proposal]:
    """For each flag that denies a tensor of the stage: that it be set."""
    for suspect in (fault.subject, fault.reference):
        flags = suspect.model.architecture.huggingface.flags
        for flag in flags:
            found = suspect.model.config.get(flag)
            if found is not None and not found.value:
                denied = [name for name in fault.names() if without_numbers(name) in left_out(flags, flag)]
                yield from (_proposal(suspect, flag, name) for name in denied[:1])


def _proposal(suspect: Suspect, flag: str, name: str) -> Proposal:
    model, own = suspect.model, suspect.model.config[flag]
    stored = _stored(suspect, flag, name)
    said = "is false" if own.key is not None else "is not there, which is false"
    return Proposal(
        kind="value.missing",
        role=suspect.role,
        repair=Repair(overrides={flag: True}),
        key=flag,
        declared=None if own.defaulted else False,
        actual=True,
        message=f"{own.key or flag} {said}, and {stored} is stored: transformers leaves it out",
        recommendation=write_setting(model.container, flag, own, "True", "False"),
    )


def _stored(suspect: Suspect, flag: str, name: str) -> str:
    """The file's own name of a tensor, or of the one that it is a part of."""
    model, stems = suspect.model, left_out(suspect.model.architecture.huggingface.flags, flag)
    names = canonical_names(model.container.tensors, model.architecture, model.block_count)
    layer = name[: name.index(".", 4) + 1]
    alike = [
        source
        for source, found in names.items()
        if found is not None and found.startswith(layer) and without_numbers(found) in stems
    ]
    return next((source for source in alike if names[source] == name), alike[0] if alike else name)
