"""The order in which repairs are tried."""

from __future__ import annotations

from rosetta.diagnose.hypotheses import all_hypotheses, in_turn
from rosetta.diagnose.search import ORDER, rank

# The finding kinds of the contract that the engine can find in a model's files.
KINDS = (
    "layout.transposed", "layout.dims_swapped", "layout.rope_order", "layout.shifted", "dtype.mislabeled",
    "value.zeroed", "value.nonfinite", "value.scaled", "value.offset", "value.swapped", "value.missing",
    "value.corrupted", "config.norm_epsilon",
)  # fmt: skip


def test_what_takes_least_from_the_reference_is_tried_first() -> None:
    order = [
        "config.x",
        "dtype.x",
        "layout.x",
        "value.swapped",
        "value.offset",
        "value.zeroed",
        "value.corrupted",
    ]
    assert sorted(order, key=rank) == order
    assert rank("unheard.of") == len(ORDER)
    assert all(rank(kind) < len(ORDER) for kind in KINDS)


def test_every_hypothesis_has_one_turn_and_what_explains_anything_the_last() -> None:
    turns = in_turn(all_hypotheses())
    assert sorted(map(id, (propose for turn in turns for propose in turn))) == sorted(
        map(id, all_hypotheses())
    )
    named = [{propose.__module__.rpartition(".")[2] for propose in turn} for turn in turns]
    assert {"transposed", "norm_epsilon", "scaled"} <= named[0]
    assert named[1:] == [{"zeroed", "nonfinite", "missing", "low_rank", "cell_factors"}, {"corrupted"}]
