"""Stages that an observed side does not show, and that our side computes in its place."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from rosetta.compare.in_parts import Value
from rosetta.compare.lane import Lane, tensors
from rosetta.compare.twin_runs import reads_alike
from rosetta.graph import TOKENS, Graph, Node
from rosetta.ops.op import NotComputable
from rosetta.runtimes.runtime import Runtime


def unrecorded_behind(graph: Graph, names: Iterable[str], observed: Runtime) -> list[Node]:
    """The stages that some are computed from, those among them, by themselves or through others, of which the observed
    side has no value; in the order of the graph."""
    found: dict[str, Node] = {}
    ahead = [*names]
    while ahead:
        node = graph.get(ahead.pop())
        if node is not None and node.name not in found and not observed.offers(node.name):
            found[node.name] = node
            ahead += node.inputs
    return [node for node in graph if node.name in found]


def compute_anew(observed: Lane, subject: Lane, before: Lane) -> None:
    """Have the unrecorded stages at hand that the subject computes otherwise now than before a repair.

    Args:
        observed, subject: both sides, with the repair in place; what is computed goes to both.
        before: the subject without it.
    """
    runtime = observed.runtime
    behind = unrecorded_behind(subject.graph, observed.values, runtime)
    otherwise: set[str] = set()
    for node in behind:
        own = before.graph.get(node.name)
        if own is not None and (
            not reads_alike(before.model, own, subject.model, node) or otherwise.intersection(node.inputs)
        ):
            otherwise.add(node.name)
    wanted = otherwise.intersection(observed.values)
    if not wanted:
        return
    values: dict[str, Value] = {**observed.values}
    for name in otherwise:
        values.pop(name, None)
    for node in _needed(behind, wanted, values):
        values |= {
            name: runtime.compute(observed.graph[name], ())
            for name in node.inputs
            if name not in values and name in observed.graph and runtime.offers(name)
        }
        with suppress(NotComputable, KeyError):
            inputs = {name: subject.moved(values[name]) for name in node.inputs}
            values[node.name] = observed.moved(subject.runtime.compute(node, tensors(inputs, node.inputs)))
    for name in wanted.intersection(values):
        observed.put(name, values[name])
        subject.put(name, subject.moved(values[name]))


def _needed(behind: list[Node], wanted: set[str], values: dict[str, Value]) -> list[Node]:
    """The stages of which some are to be computed from values at hand, in order."""
    found: list[Node] = []
    missing = set(wanted)
    for node in reversed(behind):
        if node.name in missing:
            found.append(node)
            missing |= {name for name in node.inputs if name != TOKENS and name not in values}
    return found[::-1]
