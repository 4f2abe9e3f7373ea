"""Stages recorded as a runtime fuses them: queries, keys and values in one tensor, gate and up in one.

Ours are split. A fused projection has its parts one after another, or (Falcon, GPT-NeoX, Bloom) the queries of each
kv head with its key and value; which of both it is, the model that it is compared with tells. Parts that are no
plain projection here (queries that are normed before they are a stage) are left out and said.

Letters: T = tokens, K = kv heads, D = head size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod

import torch
from torch import Tensor

from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.linear import Linear
from rosetta.ops.op import NotComputable, Op, Step, size
from rosetta.runtimes.recorded_chunks import Reading
from rosetta.runtimes.trace import Recording
from rosetta.transformer import Transformer
from rosetta.weight_cache import WeightCache

PARTS: Mapping[str, tuple[str, ...]] = {"attn_qkv": ("q", "k", "v"), "ffn_gate_up": ("ffn_gate", "ffn_up")}
"""Fused stage -> the stages that it holds, in order; named for the tensors that GGUF fuses alike."""
GROUPED = "attn_qkv"  # the one that may have its parts by kv head

Cut = Callable[[Tensor], Tensor]
Cuts = dict[str, tuple[Cut, tuple[int, ...]]]


def settled(recording: Recording, model: Model, like: Model) -> Recording:
    """See `gauges.settled`."""
    for fused, parts in PARTS.items():
        layers = list(_layers(recording, like, fused, parts))
        if not layers:
            continue
        grouped = fused == GROUPED and _fit(recording, like, fused, layers)
        made, left_out = {}, dict[str, None]()
        for layer, nodes in layers:
            source = f"layers.{layer}.{fused}"
            for node in nodes:
                if not is_projection(like, node):
                    left_out[node.stage] = None
                elif node.name not in recording.stages:
                    cut, dims = _cuts(recording, like, source, nodes, grouped)[node.name]
                    made[node.name] = (Reading((source,), cut), dims)
        how = ", by kv head" if grouped else ""
        note = f"its {fused} is compared as {' and '.join(parts)}, which it holds{how}"
        if left_out:
            note += f"; {' and '.join(left_out)} not, for they are normed before they are a stage here"
        recording = recording.with_readings(made, note)
    return recording


def operations(like: Model, node: Node) -> list[Op]:
    """The operations that a stage is in this model, one after another."""
    step = Step(like, node.layer, WeightCache("cpu", torch.float32))
    return [op for op in node.op.links if op.takes_part(step)]


def is_projection(like: Model, node: Node) -> bool:
    """Whether a stage is the product with a matrix, and nothing after it."""
    ops = operations(like, node)
    return len(ops) == 1 and isinstance(ops[0], Linear)


def _layers(
    recording: Recording, like: Model, fused: str, parts: tuple[str, ...]
) -> Iterator[tuple[int, list[Node]]]:
    """The layers whose fused stage is recorded and as wide as its parts together, with the stages of these."""
    for layer in range(like.block_count):
        entry = recording.stages.get(f"layers.{layer}.{fused}")
        nodes = [like.graph.get(f"layers.{layer}.{part}") for part in parts]
        found = [node for node in nodes if node is not None]
        if entry is None or len(found) < len(parts):
            continue
        if prod(entry.dims[1:]) == sum(prod(_width(like, node)) for node in found):
            yield layer, found


def _width(like: Model, node: Node) -> tuple[int, ...]:
    """The dims of a stage at one token."""
    c = like.settings_of(node.layer)
    return tuple(size(c, part) for part in node.op.shape)


def _cuts(recording: Recording, like: Model, source: str, nodes: list[Node], grouped: bool) -> Cuts:
    """How each part is cut out of a fused stage, and its dims, by the name of the stage."""
    tokens = recording.stages[source].dims[0]
    widths = [_width(like, node) for node in nodes]
    groups = min(width[0] for width in widths) if grouped else 1
    cuts: Cuts = {}
    start = 0
    for node, width in zip(nodes, widths, strict=True):
        stop = start + prod(width) // groups
        cuts[node.name] = _cut(groups, start, stop, width), (tokens, *width)
        start = stop
    return cuts


def _cut(groups: int, start: int, stop: int, width: tuple[int, ...]) -> Cut:
    def cut(x: Tensor) -> Tensor:
        return x.reshape(len(x), groups, -1)[..., start:stop].reshape(len(x), *width)

    return cut


def _fit(recording: Recording, like: Model, fused: str, layers: list[tuple[int, list[Node]]]) -> bool:
    """Whether parts by kv head are nearer to what the model computes than parts one after another."""
    missed = {True: 0.0, False: 0.0}
    for layer, nodes in layers:
        source = f"layers.{layer}.{fused}"
        value = recording.stage(source)
        for node in nodes:
            entering = [recording.stage(name) for name in node.inputs]
            inputs = [x for x in entering if x is not None]
            if value is None or len(inputs) < len(entering) or not is_projection(like, node):
                continue
            try:
                made = Transformer(like).compute(node, inputs)
            except NotComputable:
                continue
            for grouped in missed:
                cut, _ = _cuts(recording, like, source, nodes, grouped)[node.name]
                missed[grouped] += _distance(cut(value), made)
    return missed[True] < missed[False]


def _distance(a: Tensor, b: Tensor) -> float:
    """Of two values, up to the order within a head: rotary rows may lie in either."""
    if a.numel() != b.numel():
        return 0.0
    a, b = (x.reshape(b.shape).sort(-1).values for x in (a, b))
    return float(torch.dist(a, b))
