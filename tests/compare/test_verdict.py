"""From stages to one word, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from rosetta.compare.lockstep import LockstepResult
from rosetta.compare.results import Compared, StageDiff, Status, TokensDiff, Worst
from rosetta.compare.verdict import first_divergence, verdict

SAME = TokensDiff(left=[1, 2], right=[1, 2], match=True)
OTHER = TokensDiff(left=[1, 2], right=[1, 3], match=False, first_mismatch=1)
ALL = Compared(stages=3, weights=4, config_keys=5, tokens=2)


def stage(op: str, status: Status, **fields: Any) -> StageDiff:
    return StageDiff(name=f"layers.0.{op}", layer=0, op=op, status=status, **fields)


CASES: list[tuple[str, TokensDiff, dict[str, list[str]], Compared, bool, str, str]] = [
    # what, tokens, result, compared, both have weights, verdict, words of the reason
    ("nothing wrong", SAME, {}, ALL, True, "match", "all 3 stages agree"),
    ("drift", SAME, {"over_threshold": ["layers.0.q"]}, ALL, True, "drift", "layers.0.q and later"),
    ("tokens", OTHER, {}, ALL, True, "divergent", "position 1"),
    ("tokens and nothing compared", OTHER, {}, Compared(), True, "divergent", "token ids"),
    ("fault", SAME, {"over_threshold": ["a"], "faulty_over": ["a"]}, ALL, True, "divergent", "layers.0.k"),
    ("fault not over", SAME, {}, ALL, True, "match", "agree"),
    (
        "repaired",
        SAME,
        {"over_threshold": ["a"], "brought_back": ["a"]},
        ALL,
        True,
        "divergent",
        "brings a back",
    ),
    ("no stages", SAME, {}, Compared(weights=4), True, "inconclusive", "no stage"),
    ("no weights", SAME, {}, Compared(stages=3), True, "inconclusive", "no weight"),
    ("a trace has none", SAME, {}, Compared(stages=3), False, "match", "agree"),
    ("fault and no weights", SAME, {"faulty_over": ["a"]}, Compared(stages=1), True, "divergent", "fault"),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_verdict_and_reason(case: Any) -> None:
    _, tokens, lists, compared, weights, expected, words = case
    stages = [stage("attn_norm", "ok"), stage("k", "faulty"), stage("v", "carried")]
    word, reason = verdict(tokens, LockstepResult(stages=stages, **lists), compared, weights)
    assert word == expected
    assert words in reason


@pytest.mark.parametrize("word", ["match", "drift", "inconclusive"])
def test_only_a_divergent_pair_has_a_first_divergence(word: Any) -> None:
    assert first_divergence(word, SAME, [stage("k", "faulty")]) is None


def test_first_divergence_is_the_first_faulty_stage_and_its_worst_token() -> None:
    worst = Worst(index=[3, 1], left=0.0, right=1.0)
    stages = [stage("q", "ok"), stage("k", "faulty", worst=worst), stage("v", "faulty")]
    found = first_divergence("divergent", SAME, stages)
    assert found is not None
    assert (found.name, found.op, found.layer, found.token, found.index) == ("layers.0.k", "k", 0, 3, [3, 1])


def test_token_of_attention_scores_is_the_one_that_attends() -> None:
    worst = Worst(index=[2, 5, 1], left=0.0, right=1.0)  # head 2, token 5 attends to token 1
    found = first_divergence("divergent", SAME, [stage("attn_scores", "faulty", worst=worst)])
    assert found is not None
    assert found.token == 5


def test_stage_that_could_not_be_computed_has_no_token() -> None:
    found = first_divergence("divergent", SAME, [stage("k", "faulty")])
    assert found is not None
    assert (found.name, found.token, found.index) == ("layers.0.k", None, None)


def test_different_tokens_come_before_any_stage() -> None:
    found = first_divergence("divergent", OTHER, [stage("k", "faulty")])
    assert found is not None
    assert (found.name, found.layer, found.token) == ("tokens", None, 1)
