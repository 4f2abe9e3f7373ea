"""Values whose bytes, or halves, stand the other way round are told, however their matrix is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

TENSOR = "blk.0.attn_output.weight"
CASES = [
    # architecture, broken operand, the other, bytes that are turned round, and what stands the other way round in them
    ("llama", "gguf:F32", "hf:F16", (4, 1), "big-endian"),
    ("llama", "apr:BF16", "gguf:F32", (2, 1), "big-endian"),
    ("llama", "hf:F16", "gguf:F16", (2, 1), "big-endian"),
    ("llama", "gguf:F32", "hf:BF16", (4, 2), "its 16-bit halves exchanged"),
    ("gpt2", "hf:F32", "gguf:F16", (4, 1), "big-endian"),  # stored [in, out]
    ("gpt2", "hf:F32", "gguf:F16", (4, 2), "its 16-bit halves exchanged"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_the_other_byte_order_is_named(
    tmp_path: Path, case: tuple[str, str, str, tuple[int, int], str]
) -> None:
    architecture, broken, other, (size, unit), actual = case

    def turned(file: FileContents) -> FileContents:
        data = file.tensor(TENSOR).data.reshape(-1, size // unit, unit)
        return file.with_tensor(TENSOR, data=np.ascontiguousarray(data[:, ::-1]).reshape(-1))

    report = compared(tmp_path, tiny(architecture), broken, other, turned)
    cause = Cause("dtype.byte_order", TENSOR, "left", declared="little-endian", actual=actual)
    assert_proven(report, "layers.0.attn_out", cause)
    assert report.findings[0].evidence.from_reference is None
