"""Attention: scores and context, as arithmetic on tensors, all heads at once or some of them, and as operations.

Letters: T = tokens of a step, S = tokens so far, N = heads, K = kv heads, D = head size. A group of N / K heads
shares one key and value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.ops.linear import UNITS
from rosetta.ops.op import Op, Part, Rounding, Spread, Step, nothing, unit_of
from rosetta.workers import spread

SCORES_AT_ONCE = 1 << 24  # that a comparison holds of each side: 64 MiB
SCORES_OF_A_CORE = 1 << 20  # beyond which each head is a core's own work


def attention_scores(q: Tensor, k: Tensor, scale: float, window: int) -> Tensor:
    """Softmax of the scaled products of queries and keys, causal: [N, T, S].

    Args:
        q: [T, N, D], of the last T tokens.
        k: [S, K, D], of all tokens so far.
        scale: of the products.
        window: how many tokens are seen; 0 for all before.
    """
    tokens, total = len(q), len(k)
    q, k = q.transpose(0, 1), k.transpose(0, 1)  # [N, T, D], [K, S, D]
    hidden = ~visible(tokens, window, q.device, total)

    def of(queries: Tensor, keys: Tensor) -> Tensor:
        grouped = queries.reshape(len(keys), -1, q.shape[-1])  # a group shares its key
        products = grouped @ keys.transpose(1, 2)
        scores = products.view(-1, tokens, total).mul_(scale)
        return scores.masked_fill_(hidden, -torch.inf).softmax(-1)

    if len(q) * tokens * total <= SCORES_OF_A_CORE or len(q) % len(k):  # heads that fit no key: torch says so
        return of(q, k)
    scores, group = q.new_empty(len(q), tokens, total), len(q) // len(k)

    def write(head: int) -> None:  # what it takes to compute them exists for one head a core at a time
        key = head // group
        scores[head : head + 1] = of(q[head : head + 1], k[key : key + 1])

    spread(write, range(len(q)))
    return scores


def visible(tokens: int, window: int, device: torch.device, total: int | None = None) -> Tensor:
    """Which positions each of the last tokens attends to, bool [T, S]: itself and those before, within the window
    if any; S is T where they are all there are."""
    position = torch.arange(tokens if total is None else total, device=device)
    distance = position[len(position) - tokens :, None] - position[None, :]
    seen: Tensor = (distance >= 0) & (distance < window) if window else distance >= 0
    return seen


def attention_context(scores: Tensor, v: Tensor) -> Tensor:
    """Values, [S, K, D], weighted by the scores, [N, T, S], heads side by side: [T, N·D]."""
    v, tokens, group = v.transpose(0, 1), scores.shape[1], len(scores) // v.shape[1]
    rows = max(1, group) if scores.numel() <= SCORES_OF_A_CORE else 1  # heads that are computed together
    grouped = scores.reshape(len(v) * (group // rows), rows * tokens, -1)
    context = torch.stack(spread(lambda some: grouped[some] @ v[some * rows // group], range(len(grouped))))
    return context.view(len(scores), tokens, -1).transpose(0, 1).reshape(tokens, -1)


def heads_at_once(heads: int, kv_heads: int, tokens: int) -> list[range]:
    """All heads, in order, as many at a time as have `SCORES_AT_ONCE` scores: whole groups, or equal parts of one;
    one at least.
    """
    group, most = heads // kv_heads, max(1, SCORES_AT_ONCE // tokens**2)
    size = most - most % group if most >= group else max(n for n in range(1, most + 1) if group % n == 0)
    return [range(start, min(start + size, heads)) for start in range(0, heads, size)]


def of_heads(x: Tensor, some: range, heads: int) -> Tensor:
    """What some of the heads see of queries, keys or values.

    Args:
        x: [T, K, D]; of queries K = N.
        some: heads, all of one group or of whole groups.
        heads: how many there are.
    """
    group = heads // x.shape[1]
    return x[:, some.start // group : -(-some.stop // group)]


SCORES_UNITS, CONTEXT_UNITS = 20.0, 5.0  # float32 floors, see `linear.UNITS`
SMALLEST = 2.0**-60  # a score below it may as well be zero; its square is still a float32


@dataclass(frozen=True)
class Scores(Op):
    """Softmax of the scaled products of queries and keys, causal: [T, N, D], [T, K, D] -> [N, T, T].

    Args:
        scale, window: config keys: of the products; how many tokens are seen, 0 for all before.
    """

    scale: str = "attention.scale"
    window: str = "attention.sliding_window"
    token_axis: ClassVar[int] = 1
    by_head: ClassVar[bool] = True

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.scale, self.window)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        q, k = inputs
        return attention_scores(q, s.carried("keys", k), s[self.scale], s[self.window])

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        scores, unit = y.float().abs(), unit_of(rounding)
        through = self._through_softmax(s, scores, inputs, UNITS * unit)
        return Spread(nothing(y), SCORES_UNITS * unit * scores + through + SMALLEST)

    def parts(self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor) -> list[Part]:
        """A head at a time where they are many."""
        if y.numel() <= SCORES_OF_A_CORE:
            return super().parts(s, rounding, y, *inputs)

        def of_head(head: int) -> Part:
            one, total = slice(head, head + 1), len(y)

            def sigma() -> Tensor:
                seen = (of_heads(x, range(head, head + 1), total) for x in inputs)
                return self.spread(s, rounding, y[one], *seen).sigma

            return Part(lambda value: value[one], sigma)

        return [of_head(head) for head in range(len(y))]

    def _through_softmax(self, s: Step, scores: Tensor, inputs: Sequence[Tensor], unit: float) -> Tensor:
        """What the rounding of the scaled products of queries and keys does to the scores, [N, T, T].

        A score changes by its own share of its product's error less the mean error: where products are large, as in
        sharp attention, that is far more than the softmax itself rounds.
        """
        q, k = (x.float().transpose(0, 1).square() for x in inputs)  # [N, T, D], [K, T, D]
        error = (q.reshape(len(k), -1, q.shape[-1]) @ k.transpose(1, 2)).sqrt().view(scores.shape)
        error *= unit * abs(s[self.scale])
        return scores * (error + (scores * error).sum(-1, keepdim=True))


@dataclass(frozen=True)
class Context(Op):
    """Values weighted by the scores, heads side by side: [N, T, T], [T, K, D] -> [T, N·D]."""

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        scores, v = inputs
        v = s.carried("values", v)
        return attention_context(scores[..., : len(v)], v)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        size = y.float().abs()
        floor = CONTEXT_UNITS * unit_of(rounding) * inputs[1].float().abs().amax() * torch.ones_like(size)
        return Spread(nothing(y), floor)
