"""Rows add up, what is not due is not counted, and every miss can be drawn again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rosetta.bench.case import Shown
from rosetta.bench.draw import draw_case
from rosetta.bench.run import Score
from rosetta.bench.table import peers, render, summary, to_json

KINDS = ("value.scaled", "value.zeroed", "clean")


def score(kind: str, seed: int, shown: Shown = Shown.yes, **changes: Any) -> Score:
    case = replace(draw_case(kind, seed), shown=shown)
    found = Score(case, True, True, True, True, (), 0.5, {"cosine 0.997": (True, False)})
    return replace(found, **changes)


SCORES = [
    score("value.scaled", 0),
    score("value.scaled", 1, named=False, confirmed=False, seconds=1.5),
    score("value.zeroed", 2, detected=False, located=False, named=False, confirmed=False, peers={}),
    score("value.zeroed", 3, shown=Shown.latent, confirmed=False),
    score("clean", 4),
    score("clean", 5, accused=("value.scaled blk.0.ffn_up.weight",)),
]


def rows() -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in summary(SCORES, KINDS)}


def test_rows_and_total() -> None:
    found = rows()
    assert list(found) == ["value.scaled", "value.zeroed", "total", "clean", "latent"]
    assert found["total"] == {
        "kind": "total", "cases": 3, "detected": 2, "located": 2, "named": 1, "confirmed": 1, "accused": 0,
        "all_right": 1, "median_s": 0.5, "max_s": 1.5,
    }  # fmt: skip


def test_a_clean_row_counts_accusations_only() -> None:
    clean = rows()["clean"]
    assert (clean["detected"], clean["accused"], clean["all_right"]) == (None, 1, 1)


def test_latent_cases_need_no_proof() -> None:
    latent = rows()["latent"]
    assert (latent["detected"], latent["named"], latent["confirmed"], latent["all_right"]) == (1, 1, None, 1)


def test_peers_are_counted_on_the_cases_that_show() -> None:
    by_rule = {row["rule"]: row for row in peers(SCORES)}
    cosine = by_rule["cosine 0.997"]
    assert (cosine["cases"], cosine["detected"], cosine["located"]) == (3, 2, 0)
    assert (cosine["clean"], cosine["false_alarms"]) == (2, 2)
    assert by_rule["last-token NMSE 1e-2"]["located"] is None


def test_every_miss_says_how_to_draw_it_again() -> None:
    text = render(SCORES, KINDS, 0)
    listed = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(listed) == 3
    assert listed[0].startswith("- --kinds 'value.scaled' --seed 1 --cases 1: ")


def test_json_is_strict_and_whole() -> None:
    def refuse(literal: str) -> Any:
        pytest.fail(f"{literal} is no JSON")

    document = json.loads(to_json(SCORES, KINDS, 7), parse_constant=refuse)
    assert (document["seed"], document["cases"], len(document["scores"])) == (7, 6, 6)
    assert document["scores"][1]["faults"] == list(SCORES[1].case.faults)
    assert document["rows"] == summary(SCORES, KINDS)
