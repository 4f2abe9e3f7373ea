"""What a fault does is worked out from what was planted: cases small enough to check by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures import model_spec
from rosetta.bench.case import Plant, Shown, Subject
from rosetta.bench.expectation import broken, expectation, visibility
from rosetta.bench.reads import stage_of


def subject(
    architecture: str = "llama", operand: str = "gguf:F32", believed: str = "hf:F32", **sizes: Any
) -> Subject:
    return Subject(model_spec(architecture, **sizes), operand, believed, "left", (5, 9, 200, 31))


def of_tensor(name: str, fault: str) -> Plant:
    return Plant("x", (fault,), (), stage_of(name), frozenset({name}), shown=None)


def of_key(stage: str, **changes: Any) -> Plant:
    return Plant("x", (), (), stage, frozenset({"key"}), changes=changes, shown=None)


UP = "blk.1.ffn_up.weight"


@pytest.mark.parametrize(
    ("fault", "operand", "believed", "expected"),
    [
        (f"scaled:{UP}:2.0", "gguf:F32", "hf:F32", Shown.yes),
        (f"scaled:{UP}:2.0", "gguf:Q4_0", "hf:F32", Shown.yes),
        (f"scaled:{UP}:1.02", "gguf:Q4_0", "hf:F32", Shown.noise),
        (
            f"scaled:{UP}:1.02",
            "gguf:Q8_0",
            "hf:F32",
            Shown.noise,
        ),  # a step of Q8_0 is 1/127 of a block's largest
        (f"scaled:{UP}:1.02", "gguf:F16", "hf:F32", Shown.yes),
        (f"scaled:{UP}:1.0002", "gguf:F32", "hf:F32", Shown.small),
        (f"block_scaled:{UP}:2.0:7", "gguf:Q8_0", "hf:F32", Shown.yes),
        (f"zeroed:{UP}:3:4", "gguf:Q4_K", "gguf:Q4_K", Shown.yes),
    ],
)
def test_fault_of_a_tensor(fault: str, operand: str, believed: str, expected: Shown) -> None:
    assert expectation(of_tensor(UP, fault), subject(operand=operand, believed=believed)) is expected


@pytest.mark.parametrize(("row", "expected"), [(200, Shown.yes), (201, Shown.latent)])
def test_row_of_the_embedding_shows_where_the_prompt_uses_it(row: int, expected: Shown) -> None:
    plant = of_tensor("token_embd.weight", f"zeroed:token_embd.weight:{row}:{row + 1}")
    assert expectation(plant, subject()) is expected


def test_a_scale_that_a_norm_over_heads_takes_away_is_no_divergence() -> None:
    plant = of_tensor("blk.0.attn_q.weight", "scaled:blk.0.attn_q.weight:2.0")
    assert expectation(plant, subject("qwen3")) in (Shown.small, Shown.latent)
    assert expectation(plant, subject("qwen2")) is Shown.yes


@pytest.mark.parametrize(
    ("embedding_std", "epsilon", "expected"),
    # y = x / √(x² + ε): the share that moves is Δε / 2x², of values up to four times their rms
    [(0.02, 1e-3, Shown.yes), (0.5, 1e-5, Shown.small), (5.0, 1e-12, Shown.latent)],
)
def test_epsilon_shows_by_the_size_of_the_embedding(
    embedding_std: float, epsilon: float, expected: Shown
) -> None:
    pair = subject(embedding_std=embedding_std, epsilon=1e-6)
    assert expectation(of_key("layers.0.attn_norm", epsilon=epsilon), pair) is expected


def test_one_token_shows_no_theta() -> None:
    plant, pair = of_key("layers.0.q_rope", theta=5e5), subject()
    assert expectation(plant, pair) is Shown.yes
    alone = Subject(pair.spec, pair.operand, pair.other_operand, "left", (5,))
    assert expectation(plant, alone) is Shown.latent


def test_window_as_wide_as_the_prompt_is_latent() -> None:
    assert expectation(of_key("layers.0.attn_scores", window=4), subject()) is Shown.latent
    assert expectation(of_key("layers.0.attn_scores", window=3), subject()) is Shown.yes


def test_equal_bytes_make_any_difference_visible() -> None:
    plant, pair = of_tensor(UP, f"block_scaled:{UP}:1.5:7"), subject(operand="gguf:Q4_0", believed="apr:Q4_0")
    assert visibility(plant, pair, broken(plant, pair)) == float("inf")
    anew = of_tensor(UP, f"scaled:{UP}:0.97")  # quantised again, every block is another
    assert visibility(anew, pair, broken(anew, pair)) < 3
    coarse = subject(operand="gguf:Q4_0", believed="apr:Q4_K")
    assert 1 < visibility(plant, coarse, broken(plant, coarse)) < 20
