"""Gate and up of a fused tensor, cut in halves by a runtime where their rows lie by turns, or taken by turns where they
lie in halves (`layout.fused_order`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.graph import Node
from rosetta.ops.edit import Exchanged
from rosetta.ops.regrouped import Regrouped

PARTS = ("ffn_gate", "ffn_up")


def propose(fault: Fault) -> Iterator[Proposal]:
    """Both ways, of each stage that is made of a gate and an up."""
    if not fault.settings_unknown:
        return
    for node in fault.stages:
        if tuple(name.rpartition(".")[2] for name in node.inputs) == PARTS:
            yield from _cut_otherwise(fault, node)


def _cut_otherwise(fault: Fault, node: Node) -> Iterator[Proposal]:
    gate = fault.subject.model.graph.get(node.inputs[0])
    names = [] if gate is None else [*gate.required]
    for halves, said in ((True, "in halves, and lie by turns"), (False, "by turns, and lie in halves")):
        first = node.op.links[0]
        yield Proposal(
            kind="layout.fused_order",
            role="subject",
            repair=Repair(operations=(Exchanged(node.stage, first, Regrouped(first, halves)),)),
            tensor=names[0] if names else None,
            key=None if names else node.stage,
            message=f"{names[0] if names else node.stage}: rows of gate and up are taken {said}",
            recommendation="cut gate and up apart as they lie in their fused tensor",
        )
