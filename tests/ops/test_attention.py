"""Attention computed some heads at a time, against all at once in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rosetta.ops import attention
from rosetta.ops.attention import Shaping, attention_context, attention_scores, heads_at_once, of_heads

TOKENS, SIZE = 5, 4
SCALE, WINDOW = 0.7, 3
SHAPES = [(4, 4), (4, 2), (6, 2), (12, 2), (4, 1), (1, 1)]  # heads, kv heads


def inputs(heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(heads)
    counts = (heads, kv_heads, kv_heads)
    q, k, v = (torch.randn(TOKENS, count, SIZE, generator=draw) for count in counts)
    return q, k, v


def by_definition(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and context by torch's own attention, each head with a key of its own."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (
        x.double().transpose(0, 1) for x in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
    )
    position = torch.arange(TOKENS)
    distance = position[:, None] - position
    mask = torch.where((distance >= 0) & (distance < WINDOW), 0.0, -torch.inf).double()
    eye = torch.eye(TOKENS).double().expand(len(q), TOKENS, TOKENS)
    scores, context = (
        torch.nn.functional.scaled_dot_product_attention(q, k, values, mask, scale=SCALE)
        for values in (eye, v)
    )
    return scores, context.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("of_a_core", [0, 1 << 20])
@pytest.mark.parametrize(("heads", "kv_heads"), SHAPES)
def test_attention_is_torchs_own(
    heads: int, kv_heads: int, of_a_core: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SCORES_OF_A_CORE", of_a_core)
    q, k, v = inputs(heads, kv_heads)
    scores, context = by_definition(q, k, v)
    found = attention_scores(q, k, Shaping(SCALE, WINDOW))
    torch.testing.assert_close(found.double(), scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(attention_context(found, v).double(), context, atol=1e-6, rtol=0)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 7, 100])
@pytest.mark.parametrize(("heads", "kv_heads"), SHAPES)
def test_some_heads_at_a_time_are_all_of_them(
    heads: int, kv_heads: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", most * TOKENS**2 + 1)
    q, k, v = inputs(heads, kv_heads)
    ranges = heads_at_once(heads, kv_heads, TOKENS)
    assert [head for some in ranges for head in some] == list(range(heads))
    assert max(len(some) for some in ranges) <= most
    parts = [[of_heads(x, some, heads) for x in (q, k, v)] for some in ranges]
    scores = [attention_scores(queries, keys, Shaping(SCALE, WINDOW)) for queries, keys, _ in parts]
    context = [attention_context(some, values) for some, (_, _, values) in zip(scores, parts, strict=True)]
    expected = by_definition(q, k, v)
    torch.testing.assert_close(torch.cat(scores).double(), expected[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat(context, -1).double(), expected[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "most", "sizes"),
    [
        (12, 4, 7, [6, 6]),  # two groups of three
        (12, 2, 5, [3] * 4),  # half a group: five do not divide it
        (12, 2, 0, [1] * 12),  # one head, however long the prompt
        (10, 5, 4, [4, 4, 2]),
        (8, 8, 8, [8]),
    ],
)
def test_groups_are_kept_together_or_cut_into_equal_parts(
    heads: int, kv_heads: int, most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", most * TOKENS**2)
    assert [len(some) for some in heads_at_once(heads, kv_heads, TOKENS)] == sizes


@pytest.mark.parametrize("of_a_core", [0, 1 << 20])
@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 2), (2, 3)])
def test_heads_that_fit_no_key_are_said_whatever_their_size(
    heads: int, kv_heads: int, of_a_core: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "SCORES_OF_A_CORE", of_a_core)
    q, k, v = inputs(heads, kv_heads)
    with pytest.raises(RuntimeError, match="shape"):
        attention_scores(q, k, Shaping(1.0))
    with pytest.raises(RuntimeError, match="shape"):
        attention_context(torch.zeros(heads, TOKENS, TOKENS), v)


@pytest.mark.parametrize(
    "shaping",
    [
        Shaping(0.3),
        Shaping(0.3, window=5),
        Shaping(0.3, chunk=6),
        Shaping(0.3, softcap=2.0),
        Shaping(0.3, slopes=attention.alibi_slopes(6, 8.0)),
        Shaping(0.3, sinks=torch.linspace(-1, 1, 6)),
        Shaping(0.3, ahead=-1),
        Shaping(0.3, ahead=3),
    ],
)
@pytest.mark.parametrize("total", [19, 24])
def test_tokens_of_a_long_prompt_are_computed_with_the_keys_that_they_see(
    monkeypatch: pytest.MonkeyPatch, shaping: Shaping, total: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(19, 6, 8, generator=draw), torch.randn(total, 2, 8, generator=draw)
    whole = attention_scores(q, k, shaping)
    monkeypatch.setattr(attention, "SCORES_OF_A_CORE", 0)
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", 4)
    in_parts = attention_scores(q, k, shaping)
    assert torch.allclose(in_parts, whole, rtol=1e-5, atol=1e-7)
    assert torch.equal(in_parts == 0, whole == 0), "what is hidden weighs nothing, exactly"


@pytest.mark.parametrize("behind", [0.0, -0.5, torch.inf])
@pytest.mark.parametrize("total", [19, 24])
def test_values_of_a_long_prompt_are_weighted_as_far_as_the_scores_reach(
    monkeypatch: pytest.MonkeyPatch, behind: float, total: int
) -> None:
    """One recorded score may see what no token sees by itself."""
    draw = torch.Generator().manual_seed(0)
    scores, v = torch.rand(6, 19, total, generator=draw), torch.randn(total, 2, 8, generator=draw)
    scores *= attention.visible(19, 0, scores.device, total)
    scores[4, 2, -1] = behind
    expected = torch.einsum("nts,snd->tnd", scores.double(), v.repeat_interleave(3, 1).double()).flatten(1)
    monkeypatch.setattr(attention, "SCORES_OF_A_CORE", 0)
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", 4)
    assert torch.allclose(attention_context(scores, v), expected.float(), rtol=1e-5, atol=1e-6)
