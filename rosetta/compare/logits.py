"""What two models would say next, and how far apart they are in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rosetta.compare.pairing import other_side
from rosetta.compare.prompt import Tokenized
from rosetta.compare.results import LogitsDiff, NegativeLogLikelihood, Side, TopToken
from rosetta.tokenizer import Tokenizer

TOP_TOKENS = 5
TOKENS_AT_ONCE = 64  # whose logits are judged at a time


def compare_logits(
    logits: tuple[Tensor | None, Tensor | None], tokenized: Tokenized, reference: Side
) -> LogitsDiff | None:
    """What the sides would say next, and how likely each finds the prompt itself.

    Args:
        logits: (reference's, subject's), [T, V].
        tokenized: the tokens that were run, and the tokenizers that name the pieces.
        reference: which side the reference is.
    """
    believed, other = logits
    if believed is None or other is None:
        return None
    other = other.to(believed.device)
    sides: dict[Side, Tensor] = {reference: believed, other_side(reference): other}
    tops = {side: _top(x[-1], tokenized.tokenizers[side]) for side, x in sides.items()}
    best = believed[-1].topk(min(2, believed.shape[-1])).values
    kl = None
    if believed.shape == other.shape:
        kl = 0.0 if believed is other else float(_divergence(believed, other).mean())
    one = _likelihood(believed, tokenized.run)
    nll: dict[Side, float | None] = dict.fromkeys(sides, one)
    if other is not believed:
        nll[other_side(reference)] = _likelihood(other, tokenized.run)
    uniform = float(torch.log(torch.tensor(float(believed.shape[-1]))))
    return LogitsDiff(
        left_top=tops["left"],
        right_top=tops["right"],
        argmax_match=int(believed[-1].argmax()) == int(other[-1].argmax()),
        margin=float(best[0] - best[-1]),
        kl=kl,
        nll=NegativeLogLikelihood(left=nll["left"], right=nll["right"], uniform=uniform),
    )


def _divergence(believed: Tensor, other: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each position, float64 [T]; a few at a time, for they are in float64."""
    found = []
    for a, b in zip(believed.split(TOKENS_AT_ONCE), other.split(TOKENS_AT_ONCE), strict=True):  # type: ignore[no-untyped-call]
        p, q = a.double().log_softmax(-1), b.double().log_softmax(-1)
        found.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(found)


def _top(logits: Tensor, tokenizer: Tokenizer | None) -> list[TopToken]:
    values, ids = logits.topk(min(TOP_TOKENS, len(logits)))
    return [
        TopToken(id=i, token=tokenizer.piece(i) if tokenizer and i < tokenizer.size else None, logit=v)
        for i, v in zip(ids.tolist(), values.tolist(), strict=True)
    ]


def _likelihood(logits: Tensor, tokens: list[int]) -> float | None:
    """Mean negative log-likelihood of the tokens' own successors, in nats; None for a single token, or where not all
    of them have logits."""
    if len(tokens) < 2 or len(logits) < len(tokens):
        return None
    known = torch.tensor(tokens[1:], device=logits.device)
    if int(known.max()) >= logits.shape[-1]:
        return None
    loss = 0.0
    for start in range(0, len(known), TOKENS_AT_ONCE):  # their softmax is as large as they are
        some = known[start : start + TOKENS_AT_ONCE]
        rows = logits[start : start + len(some)].float()
        loss += float(torch.nn.functional.cross_entropy(rows, some)) * len(some)
    return loss / len(known) if math.isfinite(loss) else None
