"""Codes that an encoder gave to other weights do not lie in the order of these; those of a clean copy do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures import ggml
from fixtures.dtypes import encode
from fixtures.memory import weight_of_bytes
from fixtures.quantize import quantize
from rosetta.compare.kept_order import ENOUGH, FEWEST, KeptOrder, out_of_order
from rosetta.compare.weights import WeightPair, compare_weights
from rosetta.diagnose.edits import Offset, Scaled
from rosetta.diagnose.hypotheses.cell_factors import fitted_cells
from rosetta.diagnose.hypotheses.low_rank import Added, difference_of_low_rank
from rosetta.weight import Weight

Floats = NDArray[np.float32]
ROWS, COLUMNS = 256, 768
NEAREST = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
ORDERED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "MXFP4")


def drawn(seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((ROWS, COLUMNS), dtype=np.float32) * np.float32(0.05)


def held(raw: NDArray[np.generic], dtype: str, name: str = "blk.0.ffn_up.weight") -> Weight:
    return weight_of_bytes(raw, dtype, (ROWS, COLUMNS), name)


def copies(
    truth: Floats, stored: Floats, dtype: str, importance: Floats | None = None
) -> tuple[Weight, Weight]:
    return held(ggml.quantize(stored, dtype, importance), dtype), held(encode(truth, "BF16"), "BF16")


def rank_64(w: Floats, part: float) -> Floats:
    random = np.random.default_rng(7)
    added = random.standard_normal((ROWS, 64)) @ random.standard_normal((64, COLUMNS))
    return (w + added * (part * np.linalg.norm(w) / np.linalg.norm(added))).astype(np.float32)


def importances() -> list[Floats | None]:
    random = np.random.default_rng(5)
    massive = np.ones(COLUMNS, np.float32)
    massive[[3, 400]] = 1e6
    return [None, np.exp(2 * random.standard_normal(COLUMNS)).astype(np.float32), massive]


@pytest.mark.requires_llamacpp
@pytest.mark.sample(6)
@pytest.mark.parametrize("dtype", [*NEAREST, *ORDERED])
def test_a_clean_copy_keeps_the_order_whatever_was_important(dtype: str) -> None:
    for importance in importances():
        broken, levels = out_of_order(*copies(drawn(), drawn(), dtype, importance))
        assert (broken, levels >= ENOUGH) == (0, True)


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", ["Q4_K", "Q2_K"])
def test_eight_bits_on_the_way_break_no_order(dtype: str) -> None:
    raw = quantize(drawn(), "Q8_0")
    once = held(raw, "Q8_0").values().numpy().reshape(ROWS, COLUMNS)
    assert out_of_order(*copies(drawn(), np.ascontiguousarray(once), dtype))[0] == 0


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", ["Q5_K", "Q4_0"])
def test_eight_bits_of_one_scale_are_no_order_to_be_held_to(dtype: str) -> None:
    """One large weight makes the levels of all coarse, those far from it, too."""
    truth = drawn()
    truth[0, 0] = 2.0
    coarse, fine = held(ggml.quantize(truth, dtype), dtype), held(encode(truth, "APR_Q8"), "APR_Q8")
    assert out_of_order(coarse, fine)[0] == 0


CHANGES: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "rank 64, 1 % beneath Q4_K": ("Q4_K", lambda w: rank_64(w, 0.01)),
    "rank 64, 3 % beneath Q2_K": ("Q2_K", lambda w: rank_64(w, 0.03)),
    "rank 64, 3 % beneath Q4_0": ("Q4_0", lambda w: rank_64(w, 0.03)),
    "× 0.98 beneath Q2_K": ("Q2_K", lambda w: w * np.float32(0.98)),
    "columns' factors beneath Q2_K": (
        "Q2_K",
        lambda w: w * (1 + 0.05 * drawn(9)[:1] / np.float32(0.05)),
    ),
}


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("name", CHANGES)
def test_other_weights_beneath_the_noise_are_seen(name: str) -> None:
    dtype, change = CHANGES[name]
    pair = copies(drawn(), np.ascontiguousarray(change(drawn())), dtype)
    clean = copies(drawn(2), drawn(2), dtype)
    found = KeptOrder().heeded(WeightPair("within_noise"), pair, [pair, clean])
    assert found.state == "differing"
    assert [trait.kind for trait in found.traits] == ["order"]


@pytest.mark.requires_llamacpp
def test_an_encoder_that_never_keeps_the_order_is_held_to_none() -> None:
    pair = copies(drawn(), rank_64(drawn(), 0.03), "Q4_K")
    assert out_of_order(*pair)[0] >= FEWEST
    alike = [copies(drawn(n), rank_64(drawn(n), 0.03), "Q4_K") for n in range(2, 6)]
    order = KeptOrder()
    assert order.heeded(WeightPair("within_noise"), pair, [pair, *alike]).state == "within_noise"
    assert order.never_kept == {("Q4_K", "BF16")}, "and what that means is said once, of all of them"


@pytest.mark.requires_llamacpp
def test_a_repair_must_bring_the_order_back() -> None:
    clean = copies(drawn(2), drawn(2), "Q4_K")
    coarse, fine = copies(drawn(), drawn() * np.float32(1.03), "Q4_K")
    order = KeptOrder()
    assert order.heeded(WeightPair("within_noise"), (coarse, fine), [clean]).state == "differing"
    right, wrong = (
        replace(coarse, values_edits=(edit,), repaired=True) for edit in (Scaled(1.03), Offset(0.0005))
    )
    assert order.heeded(WeightPair("within_noise"), (right, fine), [clean]).state == "within_noise"
    assert order.heeded(WeightPair("within_noise"), (wrong, fine), [clean]).state == "differing"


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", ["Q4_K", "Q2_K"])
def test_what_a_repair_was_fitted_by_is_known_no_better_than_the_values_are(dtype: str) -> None:
    """Factors of columns that were fitted to noise left three quarters of the levels that they had put out of order."""
    factors = 1 + np.random.default_rng(9).standard_normal((1, COLUMNS), dtype=np.float32) * np.float32(0.06)
    coarse, fine = copies(drawn(), drawn() * factors, dtype)
    fitted = fitted_cells(coarse, fine, "factor", ROWS, 1)
    turned = replace(fitted, numbers=fitted.numbers.flip(1))
    before, right, wrong = (
        out_of_order(replace(coarse, values_edits=edits, repaired=bool(edits)), fine)[0]
        for edits in ((), (fitted,), (turned,))
    )
    assert before > 1000
    assert right < FEWEST
    assert wrong > 10 * FEWEST


@pytest.mark.requires_llamacpp
def test_an_adapter_is_known_no_better_either() -> None:
    random = np.random.default_rng(7)
    low = random.standard_normal((ROWS, 2)) @ random.standard_normal((2, COLUMNS))
    added = (drawn() + low * 0.005).astype(np.float32)
    coarse, fine = copies(drawn(), added, "Q4_0")
    found = difference_of_low_rank(coarse, fine)
    assert found is not None
    repaired = replace(coarse, values_edits=(Added(found[0], found[1], "Q4_0"),), repaired=True)
    broken, levels = out_of_order(coarse, fine)
    assert broken > 0.2 * levels
    assert out_of_order(repaired, fine)[0] < FEWEST


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K"])
def test_our_own_encoders_keep_the_order(dtype: str) -> None:
    pair = held(quantize(drawn(), dtype), dtype), held(encode(drawn(), "BF16"), "BF16")
    assert compare_weights(*pair).state == "within_noise"
    assert out_of_order(*pair)[0] < FEWEST
