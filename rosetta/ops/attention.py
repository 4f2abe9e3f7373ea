"""Attention: scores and context, as arithmetic on tensors, all heads at once or some of them, and as operations.

Letters: T = tokens of a step, S = tokens so far, N = heads, K = kv heads, D = head size. A group of N / K heads
shares one key and value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rosetta.lazily import torch
from rosetta.openblas import multiply
from rosetta.ops.linear import UNITS
from rosetta.ops.op import Op, Part, Rounding, Settings, Spread, Step, Tensors, nothing, size, unit_of
from rosetta.workers import spread

if TYPE_CHECKING:
    from torch import Tensor

SCORES_AT_ONCE = 1 << 24  # that a comparison holds of each side: 64 MiB
SCORES_OF_A_CORE = 1 << 20  # beyond which each head is a core's own work
QUERIES_AT_ONCE = 256  # of such a head: the later ones see keys that the earlier ones do not


@dataclass(frozen=True)
class Shaping:
    """What becomes of the products of queries and keys before the softmax.

    Args:
        scale: what they are multiplied with.
        window: how many tokens are seen; 0 for all before.
        chunk: tokens see none of another chunk of so many; 0: there are no chunks.
        softcap: c of c·tanh(x/c); 0: there is none.
        slopes: of each head, ALiBi's price of a position's distance, [N].
        sinks: of each head, a product more that takes its share of the softmax and has no value, [N].
        ahead: how many tokens behind its own a token sees; see `visible`.
    """

    scale: float
    window: int = 0
    chunk: int = 0
    softcap: float = 0.0
    slopes: Tensor | None = None
    sinks: Tensor | None = None
    ahead: int = 0


def attention_scores(q: Tensor, k: Tensor, shaping: Shaping) -> Tensor:
    """Softmax of the scaled products of queries and keys, causal: [N, T, S].

    Args:
        q: [T, N, D], of the last T tokens.
        k: [S, K, D], of all tokens so far.
        shaping: what becomes of the products.
    """
    tokens, total = len(q), len(k)
    q, k = q.transpose(0, 1), k.transpose(0, 1)  # [N, T, D], [K, S, D]

    def hidden(tokens: int, total: int) -> tuple[Tensor, int]:
        """What a token does not see, bool [T, S], and the first position that is hidden from any."""
        unseen = ~visible(tokens, shaping.window, q.device, total, shaping.chunk, shaping.ahead)
        return unseen, int(torch.cat([unseen.any(0), unseen.new_ones(1)]).byte().argmax())

    def of(queries: Tensor, keys: Tensor, heads: slice, unseen: tuple[Tensor, int]) -> Tensor:
        hidden, first = unseen
        grouped = queries.reshape(len(keys), -1, q.shape[-1])  # a group shares its key
        if len(keys) == 1:
            products = grouped.new_empty(1, grouped.shape[1], keys.shape[1])
            multiply(grouped[0], keys[0], products[0])
        else:
            products = grouped @ keys.transpose(1, 2)
        scores = products.view(-1, *hidden.shape).mul_(shaping.scale)
        if shaping.softcap:
            scores = scores.div_(shaping.softcap).tanh_().mul_(shaping.softcap)
        if shaping.slopes is not None:
            scores -= shaping.slopes[heads, None, None].to(scores) * distances(*hidden.shape).to(scores)
        scores[..., first:].masked_fill_(hidden[:, first:], -torch.inf)
        if shaping.sinks is None:
            return scores.softmax(-1)
        sinks = shaping.sinks[heads, None, None].to(scores).expand(-1, len(hidden), 1)
        return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]

    if len(q) * tokens * total <= SCORES_OF_A_CORE or len(q) % len(k):  # heads that fit no key: torch says so
        return of(q, k, slice(0, len(q)), hidden(tokens, total))
    scores, group = q.new_empty(len(q), tokens, total), len(q) // len(k)
    # No token sees one behind it: the first ones are computed as if there were no others.
    at_once = tokens if shaping.ahead > 0 else QUERIES_AT_ONCE
    parts = []
    for start in range(0, tokens, at_once):
        stop = min(start + at_once, tokens)
        seen = total - tokens + stop
        parts.append((slice(start, stop), seen, hidden(stop - start, seen)))

    def write(head: int) -> None:  # what it takes to compute them exists for one head a core at a time
        key, one = head // group, slice(head, head + 1)
        for some, seen, unseen in parts:
            scores[one, some, :seen] = of(q[one, some], k[key : key + 1, :seen], one, unseen)
            scores[one, some, seen:] = 0.0

    spread(write, range(len(q)))
    return scores


def visible(
    tokens: int,
    window: int,
    device: torch.device,
    total: int | None = None,
    chunk: int = 0,
    ahead: int = 0,
) -> Tensor:
    """Which positions each of the last tokens attends to, bool [T, S]: itself and those before, within the window
    and the chunk if any; S is T where they are all there are.

    Args:
        ahead: so many behind it as well, which no published model does; −1: not itself, unless it is the first.
    """
    total = tokens if total is None else total
    distance = distances(tokens, total).to(device)
    seen: Tensor = (distance >= -ahead) & (distance < window) if window else distance >= -ahead
    if ahead < 0:
        seen |= (distance == 0) & (torch.arange(total, device=device) == 0)
    if chunk:
        number = torch.arange(total, device=device) // chunk
        seen &= number[total - tokens :, None] == number[None, :]
    return seen


def distances(tokens: int, total: int) -> Tensor:
    """How far each position lies before each of the last tokens, int32 [T, S]."""
    position = torch.arange(total, dtype=torch.int32)
    return position[total - tokens :, None] - position[None, :]


def alibi_slopes(heads: int, largest: float) -> Tensor:
    """ALiBi's slope of each head, float32 [N] (Press et al. 2022; heads that are no power of two as ggml has them).

    Args:
        heads: N.
        largest: exponent of the last head's slope, 8 in all published models.
    """
    power = 1 << (heads.bit_length() - 1)
    first, between = 2.0 ** (-largest / power), 2.0 ** (-largest / 2 / power)
    slopes = [
        first ** (head + 1) if head < power else between ** (2 * (head - power) + 1) for head in range(heads)
    ]
    return torch.tensor(slopes, dtype=torch.float32)


def attention_context(scores: Tensor, v: Tensor) -> Tensor:
    """Values, [S, K, D], weighted by the scores, [N, T, S], heads side by side: [T, N·D]."""
    v, (heads, tokens, total), group = v.transpose(0, 1), scores.shape, len(scores) // v.shape[1]
    if scores.numel() <= SCORES_OF_A_CORE or heads % len(v):  # heads that fit no value: torch says so
        context = scores.reshape(len(v), group * tokens, total) @ v
        return context.view(heads, tokens, -1).transpose(0, 1).reshape(tokens, -1)
    context = scores.new_empty(tokens, heads, v.shape[-1])

    def weigh(head: int) -> None:
        for start in range(0, tokens, QUERIES_AT_ONCE):
            some = scores[head, start : start + QUERIES_AT_ONCE]
            seen = total - tokens + start + len(some)
            if seen < total and any(some[:, seen:].aminmax()):  # a recorded one may see what is behind it
                seen = total
            multiply(some[:, :seen], v[head // group, :seen].T, context[start : start + len(some), head])

    spread(weigh, range(heads))
    return context.view(tokens, -1)


def heads_at_once(heads: int, kv_heads: int, tokens: int, copies: int = 1) -> list[range]:
    """All heads, in order, as many at a time as have `SCORES_AT_ONCE` scores, times the copies of them that need not be
    held: whole groups, or equal parts of one; one at least.
    """
    group, most = heads // kv_heads, max(1, copies * SCORES_AT_ONCE // tokens**2)
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
        pattern: config key of which layers have the window; None: all have.
        chunk: config key of the size of chunks that see nothing of each other; None: there are none.
        softcap: config key of c in c·tanh(x/c); None: there is none.
        alibi: config key of ALiBi's largest exponent; None, or 0: positions cost nothing.
        sinks: stem of a product for each head that takes its share of the softmax; None: there are none.
        ahead: see `visible`: 0 in every published model.
        slopes: ALiBi's of each head, where they are none that an exponent gives.
    """

    scale: str = "attention.scale"
    window: str | None = "attention.sliding_window"
    pattern: str | None = None
    chunk: str | None = None
    softcap: str | None = None
    alibi: str | None = None
    sinks: str | None = None
    ahead: int = 0
    slopes: tuple[float, ...] = ()
    token_axis: ClassVar[int] = 1

    @property
    def by_head(self) -> bool:
        """Unless heads are told apart by more than their queries and keys."""
        return self.alibi is None and self.sinks is None and not self.slopes

    @property
    def keys(self) -> tuple[str, ...]:
        keys = (self.scale, self.window, self.pattern, self.chunk, self.softcap, self.alibi)
        return tuple(key for key in keys if key is not None)

    def tensors(self, c: Settings) -> Tensors:
        if self.sinks is None:
            return Tensors()
        return Tensors({f"{self.sinks}.weight": (size(c, "attention.head_count"),)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        q, k = inputs
        return attention_scores(q, s.carried("keys", k), self.shaping(s, q.shape[1]))

    def shaping(self, s: Step, heads: int) -> Shaping:
        """What becomes of the products of so many heads."""
        slides = self.window is not None and (self.pattern is None or s[self.pattern])
        return Shaping(
            s[self.scale],
            s[self.window] if slides and self.window is not None else 0,
            s[self.chunk] if self.chunk is not None else 0,
            s[self.softcap] if self.softcap is not None else 0.0,
            self._slopes(s, heads),
            None if self.sinks is None else s.weight(f"{self.sinks}.weight"),
            self.ahead,
        )

    def _slopes(self, s: Step, heads: int) -> Tensor | None:
        if self.slopes:
            return torch.tensor(self.slopes)
        return alibi_slopes(heads, s[self.alibi]) if self.alibi is not None and s[self.alibi] else None

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
