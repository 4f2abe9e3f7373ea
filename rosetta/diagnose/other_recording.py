"""A recording that was made with other weights than a file has: one sentence instead of a flood.

It has no weights to be sampled. But its products show them: each is held to what the file's weights make of the very
inputs that were recorded. Where nearly none is, in whichever layer, the recording is of another model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.compare.metrics import count_nonfinite, rms
from rosetta.compare.pair import ModelPair
from rosetta.diagnose.wrong_pair import EVERYWHERE, LEAST_MATRICES, UNRELATED
from rosetta.graph import TOKENS, Node
from rosetta.ops.linear import Linear
from rosetta.ops.op import NotComputable

SAMPLE = 12  # products, spread over the layers
APART = 0.02  # of their own size; halves, and blocks of eight bits, are off by less


def of_other_weights(pair: ModelPair) -> str | None:
    """What is said of a recording whose products are not those of the file's weights; None where they are.

    Args:
        pair: of a recording, which is believed, and a file, before any repair.
    """
    shown = [node for node in pair.subject.graph if _is_shown(pair, node)]
    step = max(1, -(-len(shown) // SAMPLE))
    pairs = [found for node in shown[step // 2 :: step] if (found := _product(pair, node)) is not None]
    if len(pairs) < LEAST_MATRICES:
        return None
    apart = [(a, b) for a, b in pairs if rms(a - b) > APART * rms(b)]
    if len(apart) < EVERYWHERE * len(pairs):
        return None
    alike = sorted(_correlation(a, b) for a, b in apart)[len(apart) // 2]
    words = (
        f"the recording is of other weights: {len(apart)} of {len(pairs)} products that it shows are not what these "
        "weights make of the recorded inputs"
    )
    if alike < UNRELATED:
        return f"{words}, and have nothing in common with it"
    return f"{words}, they correlate at {alike:.5g}: another revision, a fine-tune, or a far coarser copy"


def _is_shown(pair: ModelPair, node: Node) -> bool:
    """Whether a stage is a product, and was recorded with what it is computed from."""
    runtime, first = pair.reference.runtime, node.op.links[0]
    recorded = all(runtime.offers(name) for name in (node.name, *node.inputs))
    return (
        isinstance(first, Linear)
        and recorded
        and TOKENS not in node.inputs
        and node.name in pair.reference.graph
    )


def _product(pair: ModelPair, node: Node) -> tuple[Tensor, Tensor] | None:
    """A recorded product, and what the file's weights make of its inputs, float64; None where one cannot be had."""
    runtime, graph = pair.reference.runtime, pair.reference.graph
    try:
        inputs = [runtime.compute(graph[name], ()) for name in node.inputs]
        own = pair.subject.runtime.compute(node, [pair.subject.moved(x) for x in inputs])  # type: ignore[misc]
        recorded = runtime.settled(graph[node.name], runtime.compute(graph[node.name], ()), own)
    except (KeyError, NotComputable):
        return None
    finally:
        pair.forget()
    alike = recorded.shape == own.shape and not count_nonfinite(recorded) and not count_nonfinite(own)
    return (recorded.double().cpu(), own.double().cpu()) if alike and bool(own.any()) else None


def _correlation(a: Tensor, b: Tensor) -> float:
    norm = float(torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
    return float((a * b).sum()) / norm if norm else 0.0
