"""A tensor that the file has and an observed run does without (`value.missing`): a bias that is not added, a matrix
that is all zeros, a factor that is not applied, a norm that is not taken, or taken without its weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import in_memory, instead, zeros
from rosetta.graph import Node
from rosetta.ops.edit import Exchanged
from rosetta.ops.norm import Norm
from rosetta.ops.pointwise import Times
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each tensor of the stage as zeros, or as ones where it is no bias and no matrix, each of its norms left out; and
    each norm left out of what the stage is computed from, where that was not observed."""
    if not fault.settings_unknown or fault.recorded_value is None:
        return
    weights = fault.subject.model.weights
    for node in fault.stages:
        if node is not fault.node and node.layer != fault.layer:
            continue
        norms = [*_norms(fault, node)]
        for weight in (weights[name] for name in node.tensors if name in weights):
            if all(weight is not of_norm for _, of_norm in norms):
                yield _with_values(weight, zeros(weight.name, weight.dims))
            if not weight.name.endswith(".bias") and len(weight.dims) < 2:
                yield _with_values(weight, in_memory(weight.name, torch.ones(weight.dims)))
        for op, weight in norms:
            yield _without_norm(node, op, weight)


def _norms(fault: Fault, node: Node) -> Iterator[tuple[Norm, Weight]]:
    """The norms of a stage, each with its weight."""
    prefix = "" if node.layer is None else f"blk.{node.layer}."
    for op in node.op.links:
        if isinstance(op, Norm):
            weight = fault.subject.model.weights.get(f"{prefix}{op.stem}.weight")
            if weight is not None:
                yield op, weight


def _without_norm(node: Node, op: Norm, weight: Weight) -> Proposal:
    edit = Exchanged(node.stage, op, Times(1.0), node.layer)  # the next layer's may be taken
    return _proposal(weight, Repair(operations=(edit,)), ": the norm is left out of what was recorded")


def _with_values(weight: Weight, nothing: Weight) -> Proposal:
    """The stage as it is where all values of a tensor are ones that do nothing."""
    return _proposal(
        weight, Repair(patches={weight.name: instead(nothing)}), " takes no part in what was recorded"
    )


def _proposal(weight: Weight, repair: Repair, said: str) -> Proposal:
    return Proposal(
        kind="value.missing",
        role="subject",
        repair=repair,
        tensor=weight.name,
        message=weight.name + said,
        recommendation=f"read {weight.entry.name} where the stage is computed",
    )
