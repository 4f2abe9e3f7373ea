"""Cases are drawn from a kind and a seed alone, and say rightly what must be found."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from fixtures import model_spec
from fixtures.pairs import CONTAINERS
from rosetta.bench.case import Cause, NotHere, Plant, Shown, Subject
from rosetta.bench.draw import draw_case, kinds
from rosetta.bench.kinds import all_kinds
from rosetta.bench.reads import ORDER, place, stage_of
from rosetta.errors import UsageError


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_can_be_drawn_and_repeats(kind: str) -> None:
    case = draw_case(kind, 3)
    again = draw_case(kind, 3)
    assert case == again
    assert bool(case.plants) == (kind != "clean")
    assert case.subject.operand.partition(":")[0] in CONTAINERS
    assert len(case.plants) == {"two faults": 2, "three faults": 3, "clean": 0}.get(kind, 1)


def test_seeds_differ() -> None:
    assert len({draw_case("value.scaled", seed).subject for seed in range(6)}) == 6


def test_all_architectures_and_sides_come_up() -> None:
    subjects = [draw_case("clean", seed).subject for seed in range(60)]
    assert {s.spec.architecture for s in subjects} == {"llama", "mistral", "qwen2", "qwen3", "gpt2"}
    assert {s.side for s in subjects} == {"left", "right"}
    assert {s.container for s in subjects} == {"apr", "gguf", "hf"}


@pytest.mark.parametrize("seed", range(2))
def test_several_faults_touch_nothing_in_common(seed: int) -> None:
    case = draw_case("three faults", seed)
    touched = [name for plant in case.plants for name in plant.touches]
    assert len(touched) == len(set(touched))
    assert case.stage == min((plant.stage for plant in case.plants), key=place)


def test_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no kind 'value.melted': there are .*value\.scaled"):
        draw_case("value.melted", 0)


@pytest.mark.parametrize(
    ("tensor", "stage"),
    [
        ("token_embd.weight", "embedding"),
        ("position_embd.weight", "embedding"),
        ("blk.0.attn_qkv.bias", "layers.0.q"),
        ("blk.11.attn_k_norm.weight", "layers.11.k"),
        ("blk.2.attn_output.weight", "layers.2.attn_out"),
        ("output_norm.bias", "final_norm"),
        ("output.weight", "logits"),
    ],
)
def test_stage_that_reads_a_tensor(tensor: str, stage: str) -> None:
    assert stage_of(tensor) == stage


def test_stages_are_ordered_as_they_are_computed() -> None:
    order = [
        "tokens",
        "embedding",
        *(f"layers.{n}.{op}" for n in (0, 10) for op in ORDER),
        "final_norm",
        "logits",
    ]
    shuffled = list(np.random.default_rng(0).permutation(order))
    assert sorted(shuffled, key=place) == order


def test_exchange_of_gate_and_up_expects_one_finding_at_the_gate() -> None:
    pair, rng = Subject(model_spec("llama"), "gguf:F32", "hf:F32", "left", (5, 9)), np.random.default_rng(0)
    plant: Plant | None = None
    while plant is None or plant.touches != {"blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"}:
        with suppress(NotHere):
            plant = all_kinds()["value.swapped"](rng, pair)
    assert plant.stage == "layers.1.ffn_gate"
    (cause,) = plant.causes
    assert {*cause.subjects, *cause.partners} == plant.touches


def test_an_epsilon_expects_its_key_at_the_first_norm() -> None:
    case = draw_case("config.norm_epsilon", 0)
    key = f"attention.layer_norm_{'' if case.subject.spec.architecture == 'gpt2' else 'rms_'}epsilon"
    assert case.causes == (Cause(("config.norm_epsilon",), (key,)),)
    assert case.stage == "layers.0.attn_norm"
    assert case.shown in (Shown.yes, Shown.small, Shown.latent)
