"""Blocks that were woven for a processor's vectors are found under the plain dtype's name, and described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

NAME = "blk.1.ffn_up.weight"
SPEC = tiny("llama", hidden=128, ffn=192)


def woven(dtype: str, rows: int, width: int) -> object:
    """As ggml-cpu/repack.cpp makes them, written as its loops have it: make_block_q4_0x4, make_block_q4_0x8."""

    def fault(file: FileContents) -> FileContents:
        tensor, scale = file.tensor(NAME), 2
        size, mask = {"Q4_0": (18, 0x88), "Q8_0": (34, 0)}[dtype]
        source = tensor.data.view(np.uint8).reshape(tensor.dims[0], -1, size)  # [R, blocks, bytes]
        out = []
        for first in range(0, len(source), rows):
            for block in range(source.shape[1]):
                some = source[first : first + rows, block]
                out += [some[i, :scale] for i in range(rows)]
                for i in range((size - scale) * rows // width):
                    start = scale + i // rows * width
                    out.append(some[i % rows, start : start + width] ^ np.uint8(mask))
        return file.with_tensor(NAME, data=np.concatenate(out))

    return fault


@pytest.mark.parametrize(
    ("dtype", "rows", "width"), [("Q4_0", 4, 4), ("Q4_0", 4, 8), ("Q4_0", 8, 8), ("Q8_0", 4, 8)]
)
@pytest.mark.parametrize("right", ["hf:BF16", "gguf"])
def test_woven_blocks_are_found_and_named(
    tmp_path: Path, dtype: str, rows: int, width: int, right: str
) -> None:
    other = right if ":" in right else f"gguf:{dtype}"
    report = compared(tmp_path, SPEC, f"gguf:{dtype}", other, woven(dtype, rows, width))
    form = f"{dtype}_{rows}_{width}"
    assert_proven(report, "layers.1.ffn_up", Cause("layout.interleaved", NAME, declared=dtype, actual=form))
    assert f"holds {form}" in report.findings[0].message
