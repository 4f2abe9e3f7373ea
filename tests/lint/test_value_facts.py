"""What is counted of quantised blocks is what gguf-py's own decoding of them shows."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from fixtures.raw_gguf import TEXT, RawInfo, raw_gguf
from rosetta.dtypes import DTYPES
from rosetta.lint.engine import linted, selected_rules
from rosetta.lint.value_facts import F16_SCALED

BLOCKS = 256
NOT_DECODED = {"Q8_1", "Q1_0"}  # by gguf-py


@pytest.mark.parametrize("dtype", sorted(F16_SCALED - NOT_DECODED))
def test_blocks_are_counted_whose_values_are_no_numbers(tmp_path: Path, dtype: str) -> None:
    block = DTYPES[dtype]
    raw = np.random.default_rng(14).integers(
        0, 256, (BLOCKS, block.type_size), np.uint8
    )  # one scale in 32 is no number
    with np.errstate(all="ignore"):
        decoded = gguf.dequantize(raw, gguf.GGMLQuantizationType[dtype]).reshape(BLOCKS, -1)
    spoilt = ~np.isfinite(decoded).all(1)
    assert 0 < spoilt.sum() < BLOCKS / 4
    path = tmp_path / "model.gguf"
    assert block.code is not None
    info = RawInfo("blk.0.attn_q.weight", (block.block_size, BLOCKS), block.code, raw.tobytes())
    path.write_bytes(raw_gguf([("general.architecture", TEXT, "llama")], [info]))
    (found,) = (one for one in linted(path, rules=selected_rules(["V401"]), values=True))
    assert f"the scales of {spoilt.sum()} of {BLOCKS} blocks" in found.line()
    assert (
        found.fault.byte
        == len(path.read_bytes()) - -(-raw.size // 32) * 32 + np.argmax(spoilt) * block.type_size
    )
