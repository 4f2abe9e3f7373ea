"""Attention as arithmetic on tensors, all heads at once or some of them.

Letters: T = tokens, N = heads, K = kv heads, D = head size. A group of N / K heads shares one key and value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.workers import spread

SCORES_AT_ONCE = 1 << 24  # that a comparison holds of each side: 64 MiB
SCORES_OF_A_CORE = 1 << 20  # beyond which each head is a core's own work


def attention_scores(q: Tensor, k: Tensor, scale: float, window: int) -> Tensor:
    """Softmax of the scaled products of queries and keys, causal: [N, T, T].

    Args:
        q, k: [T, N, D], [T, K, D].
        scale: of the products.
        window: how many tokens are seen; 0 for all before.
    """
    q, k, tokens = q.transpose(0, 1), k.transpose(0, 1), len(q)  # [N, T, D], [K, T, D]
    hidden = ~visible(tokens, window, q.device)

    def of(queries: Tensor, keys: Tensor) -> Tensor:
        grouped = queries.reshape(len(keys), -1, q.shape[-1])  # a group shares its key
        products = grouped @ keys.transpose(1, 2)
        scores = products.view(-1, tokens, tokens).mul_(scale)
        return scores.masked_fill_(hidden, -torch.inf).softmax(-1)

    if len(q) * tokens**2 <= SCORES_OF_A_CORE or len(q) % len(k):  # heads that fit no key: torch says so
        return of(q, k)
    scores, group = q.new_empty(len(q), tokens, tokens), len(q) // len(k)

    def write(head: int) -> None:  # what it takes to compute them exists for one head a core at a time
        key = head // group
        scores[head : head + 1] = of(q[head : head + 1], k[key : key + 1])

    spread(write, range(len(q)))
    return scores


def visible(tokens: int, window: int, device: torch.device) -> Tensor:
    """Which positions each token attends to, bool [T, T]: itself and those before, within the window if any."""
    position = torch.arange(tokens, device=device)
    distance = position[:, None] - position[None, :]
    seen: Tensor = (distance >= 0) & (distance < window) if window else distance >= 0
    return seen


def attention_context(scores: Tensor, v: Tensor) -> Tensor:
    """Values, [T, K, D], weighted by the scores, [N, T, T], heads side by side: [T, N·D]."""
    v, tokens, group = v.transpose(0, 1), scores.shape[1], len(scores) // v.shape[1]
    rows = max(1, group) if scores.numel() <= SCORES_OF_A_CORE else 1  # heads that are computed together
    grouped = scores.reshape(len(v) * (group // rows), rows * tokens, tokens)
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
