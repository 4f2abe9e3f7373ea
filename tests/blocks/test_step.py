"""How far levels are apart, of dtypes whose encoders take the nearest one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from fixtures.quantize import quantize
from rosetta import blocks
from rosetta.errors import UnsupportedError

K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")


@pytest.mark.parametrize("dtype", K_QUANTS)
def test_levels_are_whole_steps_apart(dtype: str) -> None:
    raw = quantize(np.random.default_rng(0).standard_normal((64, 256), dtype=np.float32), dtype)
    values = dequantize(raw, GGMLQuantizationType[dtype]).astype(np.float64)
    step = blocks.step(dtype, torch.from_numpy(raw.reshape(-1)), values.shape).numpy().astype(np.float64)
    group = blocks.group_of(dtype)
    v, d = values.reshape(-1, group), step.reshape(-1, group)
    assert np.array_equal(d, np.repeat(d[:, :1], group, axis=1)), "the step is that of a block"
    used = d[:, 0] > 0
    apart = np.sort(v[used]) - v[used].min(1, keepdims=True)
    steps = apart / d[used]
    assert np.abs(steps - steps.round()).max() < 1e-3
    gaps = np.diff(steps.round(), axis=1)
    assert gaps[gaps > 0].min() == 1, "and no less than that"


@pytest.mark.parametrize("dtype", ["Q4_0", "IQ4_XS", "F16"])
def test_other_dtypes_have_none(dtype: str) -> None:
    assert not blocks.rounds_to_nearest(dtype)
    with pytest.raises(UnsupportedError, match="evenly spaced"):
        blocks.step(dtype, torch.zeros(blocks.nbytes(dtype, (256,)), dtype=torch.uint8), (256,))
