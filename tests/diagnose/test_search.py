"""The order in which repairs are tried."""

from __future__ import annotations

import pytest

from rosetta.diagnose.hypotheses import all_hypotheses, in_turn
from rosetta.diagnose.search import rank
from rosetta.finding_kind import FAMILIES


def test_what_takes_least_from_the_reference_is_tried_first() -> None:
    settings, dtypes, layouts = (FAMILIES[family][0] for family in ("config", "dtype", "layout"))
    assert settings < dtypes < layouts < rank("value.swapped")
    assert (
        dtypes < rank("config.quantization") < layouts
    )  # how packed weights are read, which is more than a setting
    values = ["swapped", "offset", "scaled", "zeroed", "nonfinite", "missing", "corrupted"]
    ranks = [rank(f"value.{name}") for name in values]
    assert ranks == sorted(set(ranks)), "no two kinds of values stand at one place"


def test_kind_that_nobody_declared_is_no_cause() -> None:
    with pytest.raises(KeyError, match=r"unheard\.of"):
        rank("unheard.of")


def test_every_hypothesis_has_one_turn_and_what_explains_anything_the_last() -> None:
    turns = in_turn(all_hypotheses())
    assert sorted(map(id, (propose for turn in turns for propose in turn))) == sorted(
        map(id, all_hypotheses())
    )
    named = [{propose.__module__.rpartition(".")[2] for propose in turn} for turn in turns]
    assert {"transposed", "norm_epsilon", "scaled"} <= named[0]
    assert named[1:] == [
        {
            "zeroed",
            "clipped",
            "nonfinite",
            "missing",
            "repeated",
            "adapter_left_out",
            "known_adapter",
            "merged_into_quantised",
            "low_rank",
            "cell_factors",
            "group_lines",
        },
        {"corrupted"},
    ]
