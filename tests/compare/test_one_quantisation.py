"""Equal codes under other scales are one quantisation: no rounding explains what the copies differ by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.dtypes import encode
from fixtures.quantize import quantize
from rosetta.compare.one_quantisation import of_one_quantisation
from rosetta.compare.weights import compare_weights
from rosetta.containers.container import TensorInput
from rosetta.diagnose.patches import weight_of
from rosetta.weight import Weight

DIMS = (64, 512)
# ggml-common.h: bytes of a block, and where its scale stands.
SCALES = {
    "Q4_0": (18, 0),
    "Q5_0": (22, 0),
    "Q8_0": (34, 0),
    "Q2_K": (84, 80),
    "Q3_K": (110, 108),
    "Q4_K": (144, 0),
    "Q6_K": (210, 208),
}


def values(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(DIMS, np.float32)


def weight(raw: NDArray[Any], dtype: str) -> Weight:
    data = np.ascontiguousarray(raw).reshape(-1).view(np.uint8)
    return weight_of(TensorInput("blk.0.attn_q.weight", dtype, DIMS, data))


def rescaled(raw: NDArray[np.uint8], dtype: str, factor: float) -> NDArray[np.uint8]:
    size, start = SCALES[dtype]
    each = raw.reshape(-1, size).copy()
    half = each[:, start : start + 2].copy().view(np.float16)
    each[:, start : start + 2] = (half.astype(np.float32) * factor).astype(np.float16).view(np.uint8)
    return each


@pytest.mark.parametrize("factor", [1.02, 1.1, 2.0, -1.0])
@pytest.mark.parametrize("dtype", SCALES)
def test_other_scales_beside_the_same_codes(dtype: str, factor: float) -> None:
    raw = quantize(values(), dtype)
    copies = weight(raw, dtype), weight(rescaled(raw, dtype, factor), dtype)
    assert of_one_quantisation(*copies)
    found = compare_weights(*copies)
    assert (found.state, found.explained, found.in_some_blocks) == ("differing", False, False)


@pytest.mark.parametrize("dtype", SCALES)
def test_two_quantisations_have_other_codes(dtype: str) -> None:
    whole = values()
    rounded = (encode(whole, "BF16").view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(DIMS)
    for other in (rounded, whole * np.float32(1.01)):
        copies = weight(quantize(whole, dtype), dtype), weight(quantize(other, dtype), dtype)
        if other is rounded:
            assert not of_one_quantisation(*copies)
            assert compare_weights(*copies).state != "differing"


def test_a_repair_of_such_a_copy_must_leave_nothing() -> None:
    """The noise of two bits would explain any amount."""
    from rosetta.diagnose.edits import Offset, Scaled
    from rosetta.diagnose.patches import edited

    raw = quantize(values(), "Q2_K")
    sound, faulty = weight(raw, "Q2_K"), weight(rescaled(raw, "Q2_K", 1.1), "Q2_K")
    for edit in (Offset(0.03, "Q2_K"), Scaled(1.1, "Q2_K")):
        mended = edited(edit)(faulty)
        assert mended is not None
        assert compare_weights(sound, mended).state == "differing"
