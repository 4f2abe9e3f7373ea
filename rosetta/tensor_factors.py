"""The factor that a GGUF file keeps beside a matrix: `blk.0.attn_q.scale` is what `blk.0.attn_q.weight` is multiplied
with. NVFP4 files have one a matrix, and one an expert of stacked ones.

llama.cpp multiplies the product with it (llama-model.cpp, `load_tensors`, the generic pass; llama-graph.cpp,
`build_lora_mm`), of those matrices that its graph of an architecture hands it with; what lies beside it as
`.input_scale`, the range of the activations, it does not use. A dense network's bias is multiplied as well
(`build_ffn`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rosetta.architectures.parts.architecture import Architecture
from rosetta.architectures.parts.factors import NETWORK
from rosetta.containers.container import Container, TensorEntry
from rosetta.errors import DamagedFileError
from rosetta.lazily import torch
from rosetta.weight import Weight

if TYPE_CHECKING:
    from torch import Tensor

SCALE, WEIGHT, BIAS = ".scale", ".weight", ".bias"
STACKED = "_exps"
HALF_ULP = 2.0**-24  # of float32, relative: what the multiplication rounds by at most


@dataclass(frozen=True)
class Multiplied:
    """What a reading makes of stored values whose factor lies in a tensor of its own.

    Args:
        factor: what they are multiplied with.
    """

    factor: float

    def touches(self, start: int, stop: int) -> bool:
        """All of them."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """Canonical values."""
        return values * self.factor

    def stored(self, values: Tensor, start: int) -> Tensor:
        """Stored values that canonical ones are made of."""
        return values / self.factor if self.factor else torch.zeros_like(values)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """That of the stored ones as many times, and the rounding of the product."""
        return torch.hypot(sigma * abs(self.factor), values.abs() * (abs(self.factor) * HALF_ULP))


def factors_of(
    container: Container, architecture: Architecture, names: Mapping[str, str | None]
) -> tuple[dict[str, tuple[float, ...]], set[str]]:
    """Factors that a file keeps beside its matrices.

    Args:
        container: the file.
        architecture: of the model: llama.cpp multiplies those of some matrices.
        names: what its tensors are called canonically; None: the architecture does not know it.

    Returns:
        Name of the matrix, or of the bias that goes with it, in the file -> one factor, or one an expert; and the
        names of the tensors that hold them.

    Raises:
        DamagedFileError: there are not as many as llama.cpp takes.
    """
    factors, held = {}, set()
    for source, known in names.items():
        matrix = source.removesuffix(SCALE) + WEIGHT
        if known is not None or container.kind != "gguf" or not source.endswith(SCALE):
            continue
        entry = container.tensors.get(matrix)
        if entry is None or not _is_multiplied(entry, architecture):
            continue
        factors[matrix] = _values(container, container.tensors[source], entry)
        if source.removesuffix(SCALE).endswith(tuple(NETWORK)):
            factors[source.removesuffix(SCALE) + BIAS] = factors[matrix]
        held.add(source)
    return factors, held


def _is_multiplied(entry: TensorEntry, architecture: Architecture) -> bool:
    """Whether llama.cpp multiplies with a matrix's factor; that of the head it asks for only where this is NVFP4."""
    _, dot, stem = entry.name.removesuffix(WEIGHT).rpartition(".")
    return stem in architecture.llamacpp.factors if dot else stem == "output" and entry.dtype == "NVFP4"


def _values(container: Container, entry: TensorEntry, matrix: TensorEntry) -> tuple[float, ...]:
    values = Weight(entry.name, container, entry, entry.dtype, entry.dims).values().reshape(-1).tolist()
    stacked = matrix.name.removesuffix(WEIGHT).endswith(STACKED)
    due = matrix.dims[0] if stacked and matrix.dims else 1
    if len(values) != due:
        raise DamagedFileError(
            f"holds {len(values)} factors of {matrix.name}, which takes {due}",
            file=container.path,
            where=f"tensor {entry.name!r}",
            remedy="export the model again",
        )
    return tuple(values)


def multiplied(weights: Mapping[str, Weight], factors: Mapping[str, tuple[float, ...]]) -> dict[str, Weight]:
    """The weights with the factors that lie beside them.

    Args:
        weights: by canonical name, as they are stored.
        factors: see `factors_of`.
    """
    return {name: _multiplied(weight, factors.get(weight.entry.name)) for name, weight in weights.items()}


def _multiplied(weight: Weight, factors: tuple[float, ...] | None) -> Weight:
    if factors is None:
        return weight
    factor = factors[weight.slot[0] if weight.slot is not None and len(factors) > 1 else 0]
    return replace(weight, values_edits=(Multiplied(factor), *weight.values_edits))
