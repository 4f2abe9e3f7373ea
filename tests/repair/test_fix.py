"""How much of a tensor counts as taken from the other file, by what its finding says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import build
from fixtures.comparing import tiny
from rosetta.compare.results import Evidence, Finding
from rosetta.model import open_model
from rosetta.repair.fix import _share_taken
from rosetta.repair.planned import Held, Planned

NAME = "blk.0.ffn_up.weight"
COUNT = 64 * 96


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (None, 0),
        (f"12 of {COUNT} weights", 12),
        (f"300 numbers for {COUNT} weights", 300),
        (f"1280 numbers for {COUNT} weights: a matrix of rank 4", 1280),
        ("96 values, read off the recorded stage", 96),
        (f"all {COUNT} weights of the head", COUNT),
        (f"a matrix of rank 4: 1280 numbers for {COUNT} weights", COUNT),
        ("layers 2, 3", COUNT),
    ],
)
def test_what_does_not_say_how_much_counts_as_all(tmp_path: Path, said: str | None, taken: int) -> None:
    weight = open_model(build(tmp_path / "model", tiny("llama"), "gguf:F16")).weights[NAME]
    finding = Finding(
        kind="value.corrupted", side="left", layer=0, tensor=NAME, message="", recommendation="", status="confirmed",
        evidence=Evidence(stage="layers.0.ffn_up", before=1.0, after=0.0, from_reference=said),
    )  # fmt: skip
    planned = Planned(NAME, weight.entry, (Held(weight),))
    assert _share_taken(planned, [finding], Path("other")) == taken / COUNT
