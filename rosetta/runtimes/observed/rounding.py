"""How coarse the weights of a file are, whatever its architecture: what two runs of two files may differ by."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from rosetta import blocks
from rosetta.containers import open_container
from rosetta.containers.container import Container, TensorEntry
from rosetta.dtypes import FLOATS

# Of a row quantised to 8 bits in blocks of 32: its largest value is about 3 rms, steps of 1/127.
ACTIVATIONS = 0.01
SAMPLE_BYTES = 1 << 24


def relative_rounding(path: Path) -> dict[str, float]:
    """The root mean square of each dtype's rounding over that of its weights, of all dtypes in a file.

    Where weights are in blocks, the runtime rounds what they are multiplied by as well.
    """
    container = open_container(path)
    try:
        return {entry.dtype: _of_dtype(container, entry) for entry in _samples(container)}
    finally:
        container.close()


def _samples(container: Container) -> list[TensorEntry]:
    """The smallest matrix of each dtype."""
    smallest: dict[str, TensorEntry] = {}
    for entry in container.tensors.values():
        known = smallest.get(entry.dtype)
        if len(entry.dims) >= 2 and (known is None or entry.nbytes < known.nbytes):
            smallest[entry.dtype] = entry
    return [entry for entry in smallest.values() if entry.nbytes <= SAMPLE_BYTES]


def _of_dtype(container: Container, entry: TensorEntry) -> float:
    raw = torch.from_numpy(container.read(entry.name))
    values = blocks.decode(entry.dtype, raw, entry.dims)
    rounding = blocks.sigma(entry.dtype, raw, entry.dims)
    size = float(values.square().mean().sqrt())
    if not size or not math.isfinite(size):
        return 0.0
    relative = float(rounding.square().mean().sqrt()) / size
    return relative if entry.dtype in FLOATS else math.hypot(relative, ACTIVATIONS)
