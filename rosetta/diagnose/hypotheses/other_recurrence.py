"""What a runtime does otherwise than the architecture where tokens carry a state along: its convolution, its time
steps, what it writes and reads, the norm and the gate behind it, the order of what was projected in one product.
Imitated by computing the operation so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import torch

from rosetta.diagnose.hypotheses.other_operation import computed_otherwise
from rosetta.diagnose.hypotheses.permuted import ColumnsTaken
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import changed
from rosetta.graph import Node
from rosetta.ops.delta_rule import TAKEN, ChannelDelta, GatedDelta
from rosetta.ops.edit import Exchanged
from rosetta.ops.op import Settings, size
from rosetta.ops.recurrent import OPENED, Convolution, GatedNorm
from rosetta.ops.state_space import STEPPED, SelectiveScan, StateSpace


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each way in which a recurrent operation may be computed otherwise than the architecture has it."""
    if not fault.settings_unknown:
        return
    for node in fault.stages:
        for op in node.op.links:
            if isinstance(op, Convolution):
                yield from _of_convolution(fault, node, op)
            elif isinstance(op, StateSpace | SelectiveScan):
                yield from _of_state(node, op)
            elif isinstance(op, GatedDelta | ChannelDelta):
                yield from _of_delta_rule(node, op)
            elif isinstance(op, GatedNorm):
                yield from _of_gated_norm(node, op)


def _of_convolution(fault: Fault, node: Node, op: Convolution) -> Iterator[Proposal]:
    if op.activation is None:  # else the setting says which
        own, other = ("silu", "none") if op.activated else ("none", "silu")
        key = f"{node.stage}.activation"
        yield computed_otherwise(op, "config.activation", key, own, other, activated=not op.activated)
    name = f"blk.{node.layer}.{op.stem}.weight"
    weight = fault.subject.model.weights.get(name)
    if weight is None or len(weight.dims) != 2:
        return
    taps = weight.dims[1]
    yield Proposal(
        kind="layout.permuted",
        role="subject",
        repair=changed(fault.subject.model, weight, ColumnsTaken(torch.arange(taps - 1, -1, -1))),
        tensor=name,
        message=f"{name} holds the taps of each channel in reverse",
        recommendation=f"read {weight.entry.name} with the oldest tap of each channel first",
    )
    for ahead in (-1, *range(1, taps)):
        key = f"{node.stage}.tokens_ahead"
        yield computed_otherwise(op, "config.causal_mask", key, 0, ahead, ahead=ahead)
    yield from _of_parts(fault, node, op)


def _of_state(node: Node, op: StateSpace | SelectiveScan) -> Iterator[Proposal]:
    for stepped in STEPPED:
        if stepped != op.stepped:
            key = f"{node.stage}.time_steps"
            yield computed_otherwise(op, "config.activation", key, op.stepped, stepped, stepped=stepped)
    yield _of_order(op, node, "written_before_read", not op.exchanged, exchanged=not op.exchanged)
    if isinstance(op, StateSpace):
        yield _of_order(op, node, "groups_tiled", op.tiled, tiled=not op.tiled)


def _of_delta_rule(node: Node, op: GatedDelta | ChannelDelta) -> Iterator[Proposal]:
    for taken in TAKEN:
        if taken != op.taken:
            key = f"{node.stage}.taken"
            yield computed_otherwise(op, "config.activation", key, op.taken, taken, taken=taken)
    way = ("of unit length", "as projected")
    yield computed_otherwise(op, "config.norm_type", f"{node.stage}.queries_and_keys", *way, unit=not op.unit)
    key = f"{node.stage}.queries_scaled"
    yield computed_otherwise(
        op, "config.attention_scale", key, op.scaled, not op.scaled, scaled=not op.scaled
    )
    if isinstance(op, GatedDelta):
        tiled = op.tiled is not op.by_turns
        yield _of_order(op, node, "keys_tiled", tiled, by_turns=not op.by_turns)
        yield _of_order(op, node, "gates_exchanged", op.exchanged, exchanged=not op.exchanged)


def _of_order(op: Any, node: Node, what: str, own: bool, **fields: Any) -> Proposal:
    """That what stands side by side is taken in another order."""
    return computed_otherwise(op, "layout.fused_order", f"{node.stage}.{what}", own, not own, **fields)


def _of_gated_norm(node: Node, op: GatedNorm) -> Iterator[Proposal]:
    for function in OPENED:
        if function != op.function:
            key = f"{node.stage}.gate"
            yield computed_otherwise(op, "config.activation", key, op.function, function, function=function)
    before, key = not op.gate_first, f"{node.stage}.norm_before_gate"
    yield computed_otherwise(op, "config.norm_type", key, before, not before, gate_first=before)


@dataclass(frozen=True)
class Part:
    """Some of the columns of what was projected in one product, and which field of which operation reads them.

    Args:
        node, field: the stage, and the name of the field that says where the columns begin.
        first, width: the columns.
    """

    node: Node
    field: str
    first: int
    width: int


def _of_parts(fault: Fault, node: Node, op: Convolution) -> Iterator[Proposal]:
    """What the convolution and the gate behind it read of one product, in each other order."""
    parts = _parts(fault, node, op)
    if [part.first for part in parts[1:]] != [part.first + part.width for part in parts[:-1]]:
        return
    (source,) = node.inputs
    product = fault.pair.subject.graph.get(source)
    name = "" if product is None else next(iter(product.tensors), "")
    weight = fault.subject.model.weights.get(name)
    if len(parts) < 2 or weight is None:
        return
    for order in permutations(parts):
        if list(order) == parts:
            continue
        yield Proposal(
            kind="layout.fused_order",
            role="subject",
            repair=Repair(operations=_rearranged(order, parts[0].first)),
            tensor=name,
            message=f"{name}: the parts of what it projects are taken in another order, number "
            + ", ".join(str(parts.index(part) + 1) for part in order),
            recommendation=f"cut what {weight.entry.name} projects in the order of the architecture",
        )


def _parts(fault: Fault, node: Node, op: Convolution) -> list[Part]:
    """The parts of the product in their order."""
    c: Settings = fault.subject.model.settings_of(node.layer)
    parts = [Part(node, "first", size(c, op.first), size(c, op.channels))]
    if op.gate is not None:
        parts.append(Part(node, "gate", size(c, op.gate), size(c, op.channels)))
    for reader in fault.pair.subject.graph:
        closing = reader.op
        if (
            isinstance(closing, GatedNorm)
            and reader.layer == node.layer
            and reader.inputs[-1:] == node.inputs
        ):
            parts.append(Part(reader, "first", size(c, closing.first), size(c, closing.channels)))
    return sorted(parts, key=lambda part: part.first)


def _rearranged(order: tuple[Part, ...], first: int) -> tuple[Exchanged, ...]:
    """The operations that read the parts, where they lie one after another in an order."""
    fields: dict[str, dict[str, int]] = {}
    nodes = {part.node.stage: part.node for part in order}
    for part in order:
        fields.setdefault(part.node.stage, {})[part.field] = first
        first += part.width
    return tuple(Exchanged(stage, node.op, _with(node.op, fields[stage])) for stage, node in nodes.items())


def _with(op: Any, fields: Mapping[str, int]) -> Any:
    """An operation, each of which is a frozen dataclass, with other fields."""
    return replace(op, **fields)
