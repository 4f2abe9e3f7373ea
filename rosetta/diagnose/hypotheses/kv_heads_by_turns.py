"""Keys and values tiled where each serves neighbouring heads of the queries (`layout.permuted`): head i sees kv head
i mod K for i // (N / K), read off an observed run.

Letters: T = tokens, N = heads, K = kv heads, D = head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.ops.attention import Context, Scores
from rosetta.ops.edit import Exchanged
from rosetta.ops.op import Op, Rounding, Settings, Spread, Step, Tensors


@dataclass(frozen=True)
class ByTurns(Op):
    """Scores or context of kv heads that are tiled, not repeated: [T, K, D] as [T, N, D].

    Args:
        op: what is computed of them then.
    """

    op: Op

    @property
    def keys(self) -> tuple[str, ...]:
        return self.op.keys

    @property
    def token_axis(self) -> int:  # type: ignore[override]
        return self.op.token_axis

    def tensors(self, c: Settings) -> Tensors:
        return self.op.tensors(c)

    def _tiled(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        first, x = inputs
        heads = len(first) if isinstance(self.op, Context) else first.shape[1]
        return first, x.repeat(1, heads // x.shape[1], 1)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return self.op.compute(s, *self._tiled(inputs))

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return self.op.spread(s, rounding, y, *self._tiled(inputs), before=before)


def propose(fault: Fault) -> Iterator[Proposal]:
    """Both the scores and the context of tiled heads, where there are several of them that serve several each."""
    op, graph = fault.node.op, fault.pair.subject.graph
    q, k = fault.input(0), fault.input(-1)
    if not fault.settings_unknown or not isinstance(op, Scores) or q is None or k is None:
        return
    if q.ndim != 3 or k.ndim != 3 or not 1 < k.shape[1] < q.shape[1]:
        return
    prefix = fault.stage.removesuffix(fault.node.stage)
    context, keys = graph.get(f"{prefix}attn_context"), graph.get(f"{prefix}k")
    if context is None or keys is None:
        return
    edits = tuple(Exchanged(node.stage, node.op, ByTurns(node.op)) for node in (fault.node, context))
    name = next(iter(keys.tensors))
    yield Proposal(
        kind="layout.permuted",
        role="subject",
        repair=Repair(operations=edits),
        tensor=name,
        message=f"{name}: queries see the heads of keys and values by turns, head i that of number i mod {k.shape[1]}",
        recommendation="repeat each head of keys and values for the neighbouring heads of queries that it serves",
    )
