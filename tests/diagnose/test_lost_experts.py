"""Experts that a file lacks, and rows that its routers lack, are one finding."""

from __future__ import annotations

from typing import Any

import pytest

from rosetta.compare.results import Finding
from rosetta.diagnose.lost_experts import told_at_once


def finding(tensor: str | None, kind: str = "value.missing", **changes: Any) -> Finding:
    words = {"message": "it is so", "recommendation": "export it", "status": "confirmed"}
    return Finding.model_validate({"kind": kind, "side": "left", "tensor": tensor} | words | changes)


def lost(*experts: int, layers: int = 2, **changes: Any) -> list[Finding]:
    names = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
    return [
        finding(f"blk.{layer}.{name}.{expert}.weight", **changes)
        for layer in range(layers)
        for expert in experts
        for name in names
    ]


def router(layer: int, kind: str = "value.missing", **changes: Any) -> Finding:
    return finding(f"blk.{layer}.ffn_gate_inp.weight", kind, **changes)


def test_experts_that_no_layer_has_are_named_once() -> None:
    other = finding("blk.0.attn_q.weight", "value.scaled")
    latent = lost(7, status="suspected", latent=True)
    one, kept = told_at_once([*lost(4, 5, 6), other, *latent])
    assert one.message.startswith(
        "experts 4 to 7 of layers 0 and 1 are missing, 24 tensors; the routers know them"
    )
    assert (one.kind, one.status, one.latent, one.tensor) == ("value.missing", "confirmed", False, None)
    assert kept is other


def test_routers_without_their_rows_say_that_it_was_pruned() -> None:
    part = {"declared": "[4, 64]", "actual": "part 1 of 2", "alternatives": ("layout.transposed",)}
    cut = [router(layer, **part) for layer in range(2)]
    [one] = told_at_once([cut[0], *lost(4, 5), cut[1]])
    assert one.alternatives == cut[0].alternatives, "the first of them is shown"
    assert one.message.endswith("the routers have no rows for them: it was pruned")


@pytest.mark.parametrize("kind", ["unexplained", "value.missing"])
def test_a_smaller_number_of_experts_says_it_of_its_routers(kind: str) -> None:
    counted = finding(None, "config.experts_used", key="expert_count", declared=4, actual=8)
    [one] = told_at_once([router(0, kind), counted, router(1)])
    assert (one.kind, one.key, one.actual) == ("config.experts_used", "expert_count", 8)
    assert "the routers of layers 0 and 1 have fewer rows: it was pruned" in one.message


def test_what_is_of_another_side_or_no_expert_is_left() -> None:
    few = [*lost(4, layers=1), router(0, "unexplained"), finding("blk.0.attn_q.bias")]
    assert told_at_once(few) == few
    apart = [*lost(4, layers=1), *lost(4, layers=1, side="right")]
    assert told_at_once(apart) == apart
