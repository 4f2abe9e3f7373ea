"""What the values of one tensor are, counted in one walk through its bytes; the rules on values look at nothing else.

A 16-bit float has 65,536 patterns: how often each occurs says all there is to know of the values but their order. Of
wider ones the upper half is counted so. Of quantised blocks the scales are looked at, which alone can make a value
that is no number; norms and embeddings are decoded. Memory holds a few megabytes whatever the tensor's size.

Letters: n = values of a piece, r = rows of a piece, b = blocks of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from rosetta.dtypes import DTYPES, Dtype
from rosetta.lint.subject import StoredTensor, Subject

PIECE = 1 << 23  # bytes
PATTERNS = 1 << 16
Counts = NDArray[np.int64]
Bytes = NDArray[np.uint8]
# ggml-common.h: the blocks whose first wide field is F16 scales; in the others a scale is of another type, or packed.
F16_SCALED = frozenset({
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS",
    "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "Q1_0",
})  # fmt: skip
_FLOATS = {"F16": 16, "BF16": 16, "F32": 32, "F64": 64}
# The bytes of floats of eight bits that are no numbers (OCP 8-bit floating point; Microscaling, 5.4.1).
_NO_NUMBERS = {
    "F8_E4M3": (0x7F, 0xFF),
    "F8_E5M2": (0x7C, 0x7D, 0x7E, 0x7F, 0xFC, 0xFD, 0xFE, 0xFF),
    "F8_E4M3FNUZ": (0x80,),
    "F8_E5M2FNUZ": (0x80,),
    "F8_E8M0": (0xFF,),
}


@dataclass
class SeenTensor:
    """What is known of one tensor's values.

    Args:
        subject: the file.
        tensor: the tensor.
        patterns: int64 `[65536]`, how often each upper half of a value occurs; None of a dtype that is no float.
        swapped: the same with the bytes of each value turned round.
        nonfinite: values (or blocks) that are NaN or Inf.
        first_nonfinite: byte of the tensor's data where the first of them lies.
        zeros: values that are exactly 0 (of blocks: of those whose scales are).
        zero_rows, constant_rows: rows of nothing but zeros, and of one other value.
        first_constant: the first such row.
        count: values that were looked at.
        mean, std: of the finite values; None where they were not decoded.
    """

    subject: Subject
    tensor: StoredTensor
    patterns: Counts | None = None
    swapped: Counts | None = None
    nonfinite: int = 0
    first_nonfinite: int | None = None
    zeros: int = 0
    zero_rows: int = 0
    constant_rows: int = 0
    first_constant: int | None = None
    count: int = 0
    mean: float | None = None
    std: float | None = None
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @property
    def dtype(self) -> str:
        return self.tensor.entry.dtype

    @property
    def is_matrix(self) -> bool:
        """Whether it has rows of more than one weight."""
        return len(self.tensor.dims) > 1 and self.tensor.dims[-1] > 1 and not self.tensor.beside

    @property
    def rms(self) -> float | None:
        """Root of the mean square of the finite values."""
        return None if self.mean is None or self.std is None else sqrt(self.mean**2 + self.std**2)


Progress = Callable[[str, int, int], None]


def seen_tensors(subject: Subject, progress: Progress | None = None) -> Iterator[SeenTensor]:
    """Every tensor that has values, one after the other; of a packed weight those that it is made of."""
    for done, tensor in enumerate(subject.tensors):
        if progress is not None:
            progress(tensor.name, done, len(subject.tensors))
        for one in (tensor, *subject.parts_of(tensor)):
            if one.entry.nbytes and one.entry.dtype in DTYPES:
                yield seen_tensor(subject, one)


def seen_tensor(subject: Subject, tensor: StoredTensor) -> SeenTensor:
    """Walk through one tensor."""
    seen = SeenTensor(subject, tensor)
    dtype = DTYPES[tensor.entry.dtype]
    if dtype.name in _FLOATS:
        _count_floats(seen, _FLOATS[dtype.name] // 8)
    elif dtype.name in _NO_NUMBERS:
        _count_bytes(seen)
    elif dtype.name in F16_SCALED and prod(tensor.dims) % dtype.block_size == 0:
        _count_blocks(seen, dtype)
        if _is_norm_or_embedding(tensor):
            _decode(seen)
    return seen


# --- plain floats ---------------------------------------------------------------------------------------------


def _count_floats(seen: SeenTensor, width: int) -> None:
    """Count patterns, rows and moments of a tensor of plain floats of so many bytes."""
    row = max(seen.tensor.dims[-1], 1) * width if seen.is_matrix else width
    step = max(PIECE // row, 1) * row
    seen.patterns, seen.swapped = np.zeros(PATTERNS, np.int64), np.zeros(PATTERNS, np.int64)
    for start, raw in _pieces(seen, step):
        words = raw.view(np.dtype(f"<u{width}"))  # [n]
        upper = raw.view(np.uint16)[width // 2 - 1 :: width // 2]
        found = np.bincount(upper, minlength=PATTERNS)
        seen.patterns += found
        if width > 2:  # of a 16-bit float the turned patterns are the same counts in another order
            seen.swapped += np.bincount(raw.view(np.uint16)[:: width // 2].byteswap(), minlength=PATTERNS)
        _look_for_nonfinite(seen, start, upper, width, found)
        seen.zeros += int(len(words) - np.count_nonzero(words << 1))
        if seen.is_matrix:
            _look_at_rows(seen, words.reshape(-1, seen.tensor.dims[-1]), start // row)
        if width > 2:
            _add_moments(seen, raw.view(np.float32 if width == 4 else np.float64))
        seen.count += len(words)
    if width == 2:
        index = np.arange(PATTERNS, dtype=np.uint16)
        seen.swapped = seen.patterns[index.byteswap()]
        _moments_of_patterns(seen)
    elif seen.count:
        _finish_moments(seen)


def _pieces(seen: SeenTensor, step: int) -> Iterator[tuple[int, Bytes]]:
    entry = seen.tensor.entry
    for start in range(0, entry.nbytes, step):
        yield start, seen.subject.stored.read(entry.name, start, min(step, entry.nbytes - start))


def _count_bytes(seen: SeenTensor) -> None:
    """Count NaN and Inf of floats of eight bits."""
    bad = np.zeros(256, bool)
    bad[list(_NO_NUMBERS[seen.dtype])] = True
    for start, raw in _pieces(seen, PIECE):
        wrong = bad[raw]
        if seen.first_nonfinite is None and wrong.any():
            seen.first_nonfinite = start + int(np.argmax(wrong))
        seen.nonfinite += int(wrong.sum())
        seen.zeros += int(len(raw) - np.count_nonzero(raw & 0x7F))
        seen.count += len(raw)


def _exponent_mask(dtype: str) -> int:
    """The bits of the upper half that are all set in NaN and Inf."""
    return {"F16": 0x7C00, "F64": 0x7FF0}.get(dtype, 0x7F80)


@cache
def _nonfinite_patterns(mask: int) -> NDArray[np.bool_]:
    exponents: NDArray[np.int64] = np.arange(PATTERNS) & mask
    return np.equal(exponents, mask)


def _look_for_nonfinite(
    seen: SeenTensor, start: int, upper: NDArray[np.uint16], width: int, found: Counts
) -> None:
    mask = _exponent_mask(seen.dtype)
    bad = int(found[_nonfinite_patterns(mask)].sum())
    if bad and seen.first_nonfinite is None:
        seen.first_nonfinite = start + int(np.argmax((upper & mask) == mask)) * width
    seen.nonfinite += bad


def _look_at_rows(seen: SeenTensor, rows: NDArray[np.unsignedinteger], first: int) -> None:
    """Count rows `[r, columns]` of one value only."""
    same = rows.max(1) == rows.min(1)
    if not same.any():
        return
    zero = same & ((rows[:, 0] << 1) == 0)
    seen.zero_rows += int(zero.sum())
    seen.constant_rows += int((same & ~zero).sum())
    if seen.first_constant is None:
        seen.first_constant = first + int(np.argmax(same))


def _add_moments(seen: SeenTensor, values: NDArray[np.floating]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(values.sum(dtype=np.float64))
        squares = (
            float(np.dot(values, values))
            if values.dtype == np.float64
            else float(np.square(values).sum(dtype=np.float64))
        )
        if np.isinf(squares):  # float32 holds no square of 2e19, float64 that of every float32
            squares = float(np.square(values, dtype=np.float64).sum())
    seen._sums[0] += total
    seen._sums[1] += squares


def _finish_moments(seen: SeenTensor) -> None:
    mean, square = seen._sums[0] / seen.count, seen._sums[1] / seen.count
    if np.isfinite(mean) and np.isfinite(square):
        seen.mean, seen.std = mean, sqrt(max(square - mean * mean, 0.0))


def values_of_patterns(dtype: str) -> NDArray[np.float64]:
    """The value of each of the 65,536 patterns of a 16-bit float, `[65536]`."""
    patterns = np.arange(PATTERNS, dtype=np.uint32)
    with np.errstate(invalid="ignore"):
        if dtype == "F16":
            return patterns.astype(np.uint16).view(np.float16).astype(np.float64)
        return (patterns << 16).view(np.float32).astype(np.float64)


def moments_of(counts: Counts, values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Mean and standard deviation of values that occur so often; None where none is finite."""
    finite = np.isfinite(values) & (counts > 0)
    count = int(counts[finite].sum())
    if not count:
        return None
    share = counts[finite] / count
    mean = float(share @ values[finite])
    return mean, sqrt(max(float(share @ np.square(values[finite] - mean)), 0.0))


def _moments_of_patterns(seen: SeenTensor) -> None:
    assert seen.patterns is not None
    found = moments_of(seen.patterns, values_of_patterns(seen.dtype))
    if found is not None:
        seen.mean, seen.std = found


# --- quantised blocks -----------------------------------------------------------------------------------------


def _count_blocks(seen: SeenTensor, dtype: Dtype) -> None:
    """Look at the scales of every block: NaN and Inf there spoil it whole."""
    per_row = seen.tensor.dims[-1] // dtype.block_size if seen.is_matrix else 0
    whole_rows = per_row and seen.tensor.dims[-1] % dtype.block_size == 0
    offset, _, count = dtype.wide[0]
    unit = dtype.type_size * (per_row if whole_rows else 1)
    for start, raw in _pieces(seen, max(PIECE // unit, 1) * unit):
        blocks = raw.reshape(-1, dtype.type_size)  # [b, bytes]
        scales = np.ascontiguousarray(blocks[:, offset : offset + 2 * count]).view(np.uint16)
        bad = ((scales & 0x7C00) == 0x7C00).any(1)
        zero = ((scales & 0x7FFF) == 0).all(1)
        if bad.any() and seen.first_nonfinite is None:
            seen.first_nonfinite = start + int(np.argmax(bad)) * dtype.type_size
        seen.nonfinite += int(bad.sum())
        seen.zeros += int(zero.sum()) * dtype.block_size
        if whole_rows:
            rows = zero.reshape(-1, per_row).all(1)
            if rows.any() and seen.first_constant is None:
                seen.first_constant = start // unit + int(np.argmax(rows))
            seen.zero_rows += int(rows.sum())
        seen.count += len(blocks) * dtype.block_size


def _is_norm_or_embedding(tensor: StoredTensor) -> bool:
    return tensor.stem == "token_embd.weight" or len(tensor.dims) == 1


def _decode(seen: SeenTensor) -> None:
    """Moments of quantised values, piece by piece."""
    import torch  # a second to import, for the few files that need it

    from rosetta import blocks

    dtype = DTYPES[seen.dtype]
    step = max((PIECE >> 3) // dtype.type_size, 1) * dtype.type_size
    for _, raw in _pieces(seen, step):
        weights = len(raw) // dtype.type_size * dtype.block_size
        _add_moments(seen, blocks.decode(seen.dtype, torch.from_numpy(raw), [weights]).numpy())
    _finish_moments(seen)
