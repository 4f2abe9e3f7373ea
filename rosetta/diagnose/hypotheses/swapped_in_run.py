"""Weights that an observed run takes for each other's (`value.swapped`): all those of two layers, all that a stage
reads, a matrix with its bias, one tensor by itself; told by the stages that read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from rosetta.diagnose.hypotheses.swapped import read_from, tensors_alike
from rosetta.diagnose.hypothesis import CLOSE, Fault, Proposal, Repair
from rosetta.names import LAYER
from rosetta.weight import Weight

Exchange = Mapping[str, str]
"""Names of tensors, each with the one that it is exchanged with."""


def propose(fault: Fault) -> Iterator[Proposal]:
    """Of each accused weight the exchanges that bring all recorded stages that read them close to what was recorded,
    the widest first: those of a layer are one cause, and a norm by itself is near any other."""
    if not fault.recorded:
        return
    layers = _nearest(fault, _layers(fault), telling=True)
    for suspect, weight in fault.accused_weights():
        partners = [*tensors_alike(suspect, weight)]
        ways = (
            layers,
            _nearest(fault, (_of_stage(fault, weight, other) for other in partners)),
            _nearest(fault, (_with_bias(fault, weight, other) for other in partners)),
            _nearest(fault, ({weight.name: other.name} for other in partners)),
        )
        told: list[Exchange] = []
        for way in ways:
            if weight.name in way and way not in told:
                told.append(way)
                yield _proposal(fault, weight, way)


def _layers(fault: Fault) -> Iterator[Exchange]:
    """All tensors of the fault's layer with those of each other layer that has the same."""
    if fault.layer is None:
        return
    own = _of_layer(fault, fault.layer)
    for number in range(fault.subject.model.block_count):
        way = {name: _in_layer(name, number) for name in own}
        if number != fault.layer and {*way.values()} == {*_of_layer(fault, number)}:
            yield way


def _of_layer(fault: Fault, layer: int) -> list[str]:
    return [name for name in fault.subject.model.weights if name.startswith(f"blk.{layer}.")]


def _in_layer(name: str, layer: int) -> str:
    """The name that a layer's tensor has in another one."""
    return LAYER.sub(lambda found: f"blk.{layer}.{found[2]}", name)


def _of_stage(fault: Fault, weight: Weight, other: Weight) -> Exchange:
    """All that the stage reads which reads a weight, with that of another layer; nothing where the other weight is none
    of another layer under the same name."""
    here, there = LAYER.match(weight.name), LAYER.match(other.name)
    if here is None or there is None or here[1] == there[1] or here[2] != there[2]:
        return {}
    readers = fault.subject.model.graph.readers.get(weight.name, [])
    names = (name for node in readers for name in node.tensors if name in fault.subject.model.weights)
    return {name: _in_layer(name, int(there[1])) for name in names}


def _with_bias(fault: Fault, weight: Weight, other: Weight) -> Exchange:
    """A matrix and what is stored beside it, with the other's."""
    own, theirs = (one.name.rpartition(".")[0] + "." for one in (weight, other))
    weights = fault.subject.model.weights
    return {name: theirs + name.removeprefix(own) for name in weights if name.startswith(own)}


def _nearest(fault: Fault, ways: Iterable[Exchange], telling: bool = False) -> Exchange:
    """The exchange that brings the stages that read what it concerns nearest to what was recorded; none where none
    brings them close.

    Args:
        telling: whether one of these stages has to read a matrix: norms are near 1, whichever they are.
    """
    best: Exchange = {}
    least = CLOSE
    for way in ways:
        apart = _distance(fault, way, telling) if _fits(fault, way) else math.inf
        if apart <= least:
            best, least = way, apart
    return best


def _fits(fault: Fault, way: Exchange) -> bool:
    """Whether all tensors of an exchange are there, each of its counterpart's dims."""
    weights = fault.subject.model.weights
    pairs = [(weights.get(name), weights.get(other)) for name, other in way.items()]
    return bool(pairs) and all(a is not None and b is not None and a.dims == b.dims for a, b in pairs)


def _distance(fault: Fault, way: Exchange, telling: bool) -> float:
    """How far an exchange leaves the recorded stages that read what it concerns, the fault's own first; infinite where
    none of them tells, or one is far."""
    repair, worst, told = _repair(fault, way), 0.0, not telling
    graph, weights = fault.subject.model.graph, fault.subject.model.weights
    touched = {*way, *way.values()}
    readers = [node for node in graph if touched.intersection(node.tensors) and node.name != fault.stage]
    for node in (fault.node, *readers):
        apart = fault.distance_at(repair, None if node is fault.node else node.name)
        if apart is None:
            continue
        worst = max(worst, apart)
        if worst > CLOSE:
            return math.inf
        read = fault.stages if node is fault.node else (node,)
        told |= any(len(weights[name].dims) > 1 for one in read for name in touched.intersection(one.tensors))
    return worst if told else math.inf


def _repair(fault: Fault, way: Exchange) -> Repair:
    weights = fault.subject.model.weights
    both = {**way, **{other: name for name, other in way.items()}}
    return Repair(patches={name: read_from(weights[source]) for name, source in both.items()})


def _proposal(fault: Fault, weight: Weight, way: Exchange) -> Proposal:
    partner = fault.subject.model.weights[way[weight.name]]
    message = f"{weight.name} holds the values of {partner.name}, and the reverse"
    recommendation = f"exchange {weight.entry.name} and {partner.entry.name} on export"
    beside = [name for name in way if name != weight.name]
    if fault.layer is not None and beside == [n for n in _of_layer(fault, fault.layer) if n != weight.name]:
        message += ", as all tensors of their layers do"
        recommendation = f"exchange the layers of {weight.entry.name} and {partner.entry.name} on export"
    elif beside:
        message += f", and with them {', '.join(beside)}"
    return Proposal(
        kind="value.swapped",
        role="subject",
        repair=_repair(fault, way),
        tensor=weight.name,
        partner=partner.name,
        message=message,
        recommendation=recommendation,
    )
