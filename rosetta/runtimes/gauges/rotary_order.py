"""The order of rotary rows within a head: adjacent pairs, or the two halves of a head.

A llama recorded from transformers has its queries and keys in split halves, and GGUF's canonical order is adjacent
pairs. Which of both a recording has is told by itself: only in its own order do its queries and keys give the rotated
ones, scores or context that it holds. Where it holds none of these, all its layers must fit the model in the other
order, and none in the canonical one.

Letters: T = tokens, N = heads, D = head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.op import NotComputable, Step, size
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF, Rotary
from rosetta.runtimes.recorded_chunks import Reading
from rosetta.runtimes.trace import Recording
from rosetta.transformer import Transformer
from rosetta.weight_cache import WeightCache

FACT = "rope_order"
"""The fact by which a recording states its order."""
NAMES = {"interleaved": INTERLEAVED, "split_half": SPLIT_HALF}
CLEAR = 0.1
"""Of two orders of the same rows, the wrong one misses by about the size of the values (1.4 times, were they
independent); the right one by the noise of the coarsest dtype, 0.08 of them (docs/noise.md)."""
APART = 1e-2
"""By less, orders are not told apart: one token is turned by nothing."""
PART = "attn_out"  # the last stage that tells the orders apart by what is recorded

Turn = Callable[[Tensor], Tensor]


def settled(recording: Recording, model: Model, like: Model) -> Recording:
    """See `gauges.settled`."""
    turns = dict(_turns(recording, like))
    if not turns or not _is_turned(recording, model, like, turns):
        return recording
    made = {
        name: (Reading((name,), turn), tuple(recording.stages[name].dims)) for name, turn in turns.items()
    }
    return recording.with_readings(
        made,
        "its queries and keys lie in the other rotary order, split halves for adjacent pairs or the reverse, in all "
        "layers: a recording may have either, and they are compared in ours",
    )


def rotary_of(node: Node) -> Rotary | None:
    """The rotation that a stage is, or begins with; None where it is none."""
    return next((op for op in node.op.links if isinstance(op, Rotary)), None)


def _turns(recording: Recording, like: Model) -> Iterator[tuple[str, Turn]]:
    """The recorded queries and keys, rotated or not, by name, each with what brings it from the other order."""
    for node in like.graph:
        op = rotary_of(node)
        if op is None:
            continue
        for name in (node.inputs[0], node.name):
            if name in recording.stages and (heads := _heads(like, node)):
                yield name, _turn(op, like, node.layer, heads)


def _heads(like: Model, node: Node) -> int:
    """How many heads a rotated stage has."""
    before = like.graph.get(node.inputs[0])
    shape = before.op.shape if before is not None else ()
    return size(like.settings_of(node.layer), shape[0]) if shape else 0


def _turn(op: Rotary, like: Model, layer: int | None, heads: int) -> Turn:
    """From the other order into ours: [T, N, D], or [T, N·D] with the heads side by side."""
    step = Step(like, layer, WeightCache("cpu", torch.float32))
    other = replace(op, order=SPLIT_HALF if op.order == INTERLEAVED else INTERLEAVED)

    def turn(x: Tensor) -> Tensor:
        if x.ndim not in (2, 3) or (x.ndim == 2 and x.shape[1] % heads):
            return x
        value = x.reshape(len(x), heads, -1) if x.ndim == 2 else x
        out, width = value.clone(), value.shape[-1]
        for ours, theirs in zip(op.halves(step, width), other.halves(step, width), strict=True):
            out[..., ours] = value[..., theirs]
        return out.reshape(x.shape)

    return turn


def _is_turned(recording: Recording, model: Model, like: Model, turns: Mapping[str, Turn]) -> bool:
    """Whether the recording is in the other order."""
    stated = NAMES.get(str(recording.facts.get(FACT)))
    if stated is not None:
        orders = {op.order for node in like.graph if (op := rotary_of(node)) is not None}
        return stated not in orders
    votes = list(_own_votes(recording, model, like, turns)) or list(_fits(recording, like, turns))
    return bool(votes) and all(votes)


def _own_votes(recording: Recording, model: Model, like: Model, turns: Mapping[str, Turn]) -> Iterator[bool]:
    """For each layer whose recorded stages tell the orders apart, whether they are in the other one."""
    layers: dict[int | None, list[Node]] = {}
    for node in model.graph:
        layers.setdefault(node.layer, []).append(node)
    for layer, nodes in layers.items():
        if layer is None or not any(rotary_of(node) for node in nodes):
            continue
        missed = [_missed(recording, nodes, (model, like), chosen) for chosen in ({}, turns)]
        if (vote := _vote(*missed)) is not None:
            yield vote


def _missed(
    recording: Recording, nodes: list[Node], models: tuple[Model, Model], turns: Mapping[str, Turn]
) -> float | None:
    """By how much a layer's queries and keys, in an order, miss the first recorded stage after them, relative.

    Args:
        recording: of the run.
        nodes: the stages of the layer.
        models: the recorded one, for its settings, and the one that it is compared with, for its weights.
        turns: what brings stages into that order.
    """
    values: dict[str, Tensor] = {}

    def value_of(name: str) -> Tensor | None:
        found = values.get(name)
        if found is None and (stored := recording.stage(name)) is not None:
            found = turns[name](stored) if name in turns else stored
        return found

    reached = {node.inputs[0] for node in nodes if rotary_of(node)}
    worst: float | None = None
    for node in nodes:
        if not reached & set(node.inputs):
            continue
        if worst is not None and not rotary_of(node):
            break
        inputs = [value_of(name) for name in node.inputs]
        made = _computed(models[any(node.tensors)], node, inputs)
        if made is None:
            break
        reached.add(node.name)
        seen, values[node.name] = value_of(node.name), made
        if seen is not None:
            worst = max(worst or 0.0, _relative(made, seen))
        if node.stage == PART:
            break
    return worst


def _fits(recording: Recording, like: Model, turns: Mapping[str, Turn]) -> Iterator[bool]:
    """For each recorded stage whose inputs are recorded, whether only the other order is what the model computes."""
    for name, turn in turns.items():
        node, seen = like.graph[name], recording.stage(name)
        inputs = [recording.stage(source) for source in node.inputs]
        made = None if rotary_of(node) or seen is None else _computed(like, node, inputs)
        if made is not None and seen is not None:
            vote = _vote(_relative(made, seen), _relative(made, turn(seen)))
            if vote is not None:
                yield vote


def _vote(plain: float | None, turned: float | None) -> bool | None:
    """Which of two orders misses by far less: the other one (True), ours, or neither (None)."""
    if plain is None or turned is None:
        return None
    right, wrong = sorted((plain, turned))
    if not math.isfinite(wrong):
        return None
    return None if wrong < APART or right > CLEAR * wrong else turned < plain


def _computed(model: Model, node: Node, inputs: Sequence[Tensor | None]) -> Tensor | None:
    """A stage of one of the models; None where an input is missing or it cannot be computed."""
    shaped = [_shaped(model, name, x) for name, x in zip(node.inputs, inputs, strict=True) if x is not None]
    if len(shaped) < len(inputs):
        return None
    try:
        return Transformer(model).compute(node, shaped)
    except NotComputable:
        return None


def _shaped(model: Model, name: str, x: Tensor) -> Tensor:
    """Heads that were recorded side by side, one after another."""
    node = model.graph.get(name)
    shape = node.op.shape if node is not None else ()
    if node is not None and rotary_of(node):
        before = model.graph.get(node.inputs[0])
        shape = before.op.shape if before is not None else ()
    if x.ndim == 2 and len(shape) == 2:
        heads = size(model.settings_of(None if node is None else node.layer), shape[0])
        return x.reshape(len(x), heads, -1) if heads and x.shape[1] % heads == 0 else x
    return x


def _relative(made: Tensor, seen: Tensor) -> float:
    if made.numel() != seen.numel():
        return torch.inf
    made, seen = made.flatten().double(), seen.flatten().double()
    of = float(seen.norm())
    return float((made - seen).norm()) / of if of else torch.inf
