"""A GPTQ folder whose config states the other form of zero points than all its weights have (`config.quantization`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.blocks.schemes import Way
from rosetta.blocks.schemes.gptq import FORMATS, GptqWeight
from rosetta.compare.weights import readable
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.packed_weights import for_all_of
from rosetta.diagnose.patches import reading
from rosetta.model import Patch
from rosetta.weight import Weight

KEY = "quantization_config.checkpoint_format"
LOOKED_AT, ROWS, COLUMNS = 6, 64, 256  # weights from all over the file, and of each
# Of the squares of the differences: a zero point off by one leaves several times what rounding does.
NEARER = 0.5


def propose(fault: Fault) -> Iterator[Proposal]:
    """The form that is not stated, where all weights that are looked at are the other side's by it alone."""
    suspect = fault.subject
    container = suspect.model.container
    if fault.recorded or not isinstance(container, QuantisedContainer):
        return
    packed = [weight for weight in suspect.model.weights.values() if _as_packed(weight) is not None]
    if not any(weight.name in fault.names() for weight in packed):
        return
    step = max(1, len(packed) // LOOKED_AT)
    nearer = [_is_nearer_otherwise(suspect, weight) for weight in packed[step // 2 :: step]]
    if len(nearer) < 2 or not all(nearer):
        return
    first = _as_packed(packed[0])
    assert first is not None
    stated, actual = FORMATS[:: 1 if first.stored_less else -1]
    less = "stored as they are" if first.stored_less else "stored less one"
    patches: dict[str, Patch] = {}
    for weight in packed:
        patches |= for_all_of(suspect.model, [weight], reading(container=_otherwise(weight)))
    yield Proposal(
        kind="config.quantization",
        role=suspect.role,
        repair=Repair(patches=patches),
        key=KEY,
        declared=stated,
        actual=actual,
        message=f"{KEY} is {stated}{' or not stated' * first.stored_less}, and the zero points of "
        f"{len(packed)} weights are {less}: {actual}",
        recommendation=f"state {KEY} {actual} in config.json of {container.path}, or quantise the model again",
    )


def _as_packed(weight: Weight) -> GptqWeight | None:
    """The GPTQ weight that it is read from, as its scheme has it."""
    container = weight.container
    found = container.packed.get(weight.entry.name) if isinstance(container, QuantisedContainer) else None
    return found if isinstance(found, GptqWeight) else None


def _otherwise(weight: Weight) -> QuantisedContainer:
    """Its folder, in which it is read by the other form."""
    container, packed = weight.container, _as_packed(weight)
    assert isinstance(container, QuantisedContainer)
    assert packed is not None
    return container.read_otherwise(packed.name, Way(zero_shift=1 - 2 * packed.stored_less))


def _is_nearer_otherwise(suspect: Suspect, weight: Weight) -> bool:
    """Whether some rows are far nearer to the other side's by the other form than as stated."""
    other = suspect.counterpart(weight)
    if other is None or other.dims != weight.dims or not readable(other):
        return False
    truth = other.corner(ROWS, COLUMNS)
    as_stated, otherwise = (
        float((copy.corner(ROWS, COLUMNS) - truth).square().sum())
        for copy in (weight, replace(weight, container=_otherwise(weight)))
    )
    return otherwise < NEARER * as_stated
