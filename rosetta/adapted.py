"""A LoRA adapter merged into canonical weights, row by row when they are asked for: nothing merged is kept.

An adapter speaks of modules by transformers' names and order. It is read as if it were a folder whose tensors are the
products of its factors, so that names, fused tensors and the order of rotary rows become canonical by the same rules as
a folder's, whatever the base is stored in.

Letters: R = rows, C = columns of a module's matrix, r = rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.adapter import AGAIN, MERGE, WEIGHTS, Adapted, AdaptedContainer, Adapter, is_base
from rosetta.containers.container import Container, Setting, TensorEntry
from rosetta.containers.span import slice_of
from rosetta.dtypes import PAIR
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.lazily import torch
from rosetta.weight import ValuesEdit, Weight

if TYPE_CHECKING:
    from torch import Tensor

DTYPE = "LORA:F32"  # a scheme's: values and their rounding, worked out from several tensors

Read = Callable[[Container, str, TensorEntry], list[Weight]]
"""The canonical weights of a tensor that a folder holds, by its container, its name there and its entry."""


class Product:
    """What an adapter says of one matrix, as a folder of that one tensor: each row worked out when it is read.

    Args:
        adapter: whose tensors these are.
        name: of the matrix, in a folder.
        metadata: of the base's folder; empty where it is none.
        numbers: values and their rounding of rows start … stop, float32 [rows, C] each.
        dims: R, C.
    """

    kind = "huggingface"
    label = "LoRA"
    architecture: str | None = None
    settings: Mapping[str, Setting] = {}
    file_bytes = 0
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        adapter: Adapter,
        name: str,
        metadata: Mapping[str, Any],
        numbers: Callable[[int, int], tuple[Tensor, Tensor]],
        dims: tuple[int, int],
    ) -> None:
        self.path: Path = adapter.path
        self.metadata, self._numbers = metadata, numbers
        self.entry = TensorEntry(name, DTYPE, dims, dims[0] * dims[1] * PAIR)
        self.tensors: Mapping[str, TensorEntry] = {name: self.entry}

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`: pairs of float32."""
        start, size = slice_of(self.entry, start, nbytes)
        row = self.entry.dims[1] * PAIR
        if not size:
            return np.empty(0, np.uint8)
        first, last = start // row, -(-(start + size) // row)
        pairs = torch.stack(self._numbers(first, last), dim=-1).numpy().reshape(-1).view(np.uint8)
        return pairs[start - first * row :][:size].copy()

    def close(self) -> None:
        """The adapter's to do."""


@dataclass(frozen=True)
class Merged:
    """An edit that merges an adapter into a matrix.

    Args:
        module: what the adapter says of it.
        added: what is added to it, scaled.
        lengths: DoRA's lengths of the rows, [R, 1]; None without DoRA.
    """

    module: Adapted
    added: Weight
    lengths: Weight | None = None

    def touches(self, start: int, stop: int) -> bool:
        """All rows."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """W + s·B·A; of DoRA each row of it stretched to its length (Liu et al. 2024, eq. 5)."""
        merged = values + self.added.values(start, start + len(values), values.device)
        return merged if self.lengths is None else merged * self._stretch(merged, start)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The rounding of both."""
        stop = start + len(values)
        found = torch.hypot(sigma, self.added.sigma(start, stop, values.device))
        if self.lengths is None:
            return found
        merged = values + self.added.values(start, stop, values.device)
        return found * self._stretch(merged, start).abs()

    def _stretch(self, merged: Tensor, start: int) -> Tensor:
        assert self.lengths is not None
        lengths = self.lengths.values(start, start + len(merged), merged.device)
        stretch: Tensor = lengths / merged.norm(dim=1, keepdim=True)
        return stretch


@dataclass(frozen=True)
class Instead:
    """An edit that puts a tensor that was trained as a whole in the place of the base's.

    Args:
        other: that tensor.
    """

    other: Weight

    def touches(self, start: int, stop: int) -> bool:
        """All rows."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """The other's."""
        return self.other.values(start, start + len(values), values.device)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """The other's."""
        return self.other.sigma(start, start + len(values), values.device)


@dataclass(frozen=True)
class _Factors:
    """The factors of one module, read when asked for.

    Args:
        adapter: whose they are.
        of: the module.
    """

    adapter: Adapter = field(hash=False, compare=False)
    of: Adapted

    @property
    def dims(self) -> tuple[int, int]:
        """R, C."""
        left, right = (self.adapter.stored.tensors[name].dims for name in (self.of.left, self.of.right))
        return (left[1], right[0]) if self.of.is_embedding else (left[0], right[1])

    def numbers(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """s·B·A of some rows, and what the rounding of both factors makes of it."""
        left, right = _tensor(self.adapter, self.of.left), _tensor(self.adapter, self.of.right)
        if self.of.is_embedding:
            a, a_sigma = left.values()[:, start:stop].T, left.sigma()[:, start:stop].T
            b, b_sigma = right.values().T, right.sigma().T
        else:
            a, a_sigma = left.values(start, stop), left.sigma(start, stop)
            b, b_sigma = right.values(), right.sigma()
        variance = a_sigma.square() @ b.square() + a.square() @ b_sigma.square()
        return self.of.scale * (a @ b), abs(self.of.scale) * variance.sqrt()

    def lengths(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """DoRA's lengths of some rows, [rows, 1]."""
        held = _tensor(self.adapter, str(self.of.magnitude))
        return held.values(start, stop).view(-1, 1), held.sigma(start, stop).view(-1, 1)


def adapted(
    container: AdaptedContainer,
    weights: Mapping[str, Weight],
    canonical: Callable[[str], str | None],
    read: Read,
) -> dict[str, Weight]:
    """The base's weights with the adapter merged into them.

    Args:
        container: both.
        weights: the base's, canonical.
        canonical: the canonical name of a folder's tensor.
        read: see `Read`.

    Raises:
        UsageError: the adapter is one of another model: it has modules or shapes that the base has not.
        UnsupportedError: it is none that is merged row by row.
    """
    found = dict(weights)
    adapter, base = container.adapter, container.base
    metadata = base.metadata if base.kind == "huggingface" else {}
    for source, (name, edit) in _edits(adapter, metadata, read):
        if canonical(source) is None or name not in weights:
            raise UsageError(
                f"the base {base.path} has no such tensor",
                file=adapter.path / WEIGHTS,
                where=f"{source!r}",
                remedy="give the model that the adapter was trained on" + _trained_on(adapter),
            )
        own, theirs = weights[name].dims, (edit.added if isinstance(edit, Merged) else edit.other).dims
        if own != theirs:
            raise UsageError(
                f"is {list(theirs)} in the adapter and {list(own)} in the base {base.path}",
                file=adapter.path / WEIGHTS,
                where=f"{source!r}",
                remedy="give the model that the adapter was trained on" + _trained_on(adapter),
            )
        same = [other for other, weight in weights.items() if weight.same_place(weights[name])]
        if len(same) > 1 and isinstance(edit, Instead) and not is_base(edit.other.entry.name):
            # Of a module to be saved peft trains a copy, which is tied to nothing.
            raise UnsupportedError(
                f"stands for one of {' and '.join(same)}, which the base {base.path} ties",
                file=adapter.path / WEIGHTS,
                where=f"{source!r}",
                remedy=MERGE,
            )
        for other in same:  # what is added to one tensor is added to the tied head, too, as peft merges it
            found[other] = replace(found[other], values_edits=(*found[other].values_edits, edit))
    return found


def _edits(
    adapter: Adapter, metadata: Mapping[str, Any], read: Read
) -> Iterator[tuple[str, tuple[str, Merged | Instead]]]:
    """(name in a folder, (canonical name, edit)) of all that the adapter holds: whole tensors before what is added."""
    for name, stored in adapter.whole.items():
        for weight in read(adapter.stored, name, adapter.stored.tensors[stored]):
            yield name, (weight.name, Instead(weight))
    for module in adapter.modules:
        name, factors = f"{module.module}.weight", _Factors(adapter, module)
        product = Product(adapter, name, metadata, factors.numbers, factors.dims)
        added = read(product, name, product.entry)
        lengths: list[Weight | None] = [None] * len(added)
        if module.magnitude is not None:
            rows = adapter.stored.tensors[module.magnitude].dims
            if rows != factors.dims[:1]:
                raise DamagedFileError(
                    f"lora_magnitude_vector is {list(rows)}, lora_B has {factors.dims[0]} rows",
                    file=adapter.path / WEIGHTS,
                    where=f"module {module.module!r}",
                    remedy=AGAIN,
                )
            if any(weight.transposed or weight.columns is not None for weight in added):
                raise UnsupportedError(
                    "DoRA of a matrix that is read turned is not merged here",
                    file=adapter.path / WEIGHTS,
                    where=f"module {module.module!r}",
                    remedy=MERGE,
                )
            column = Product(adapter, name, metadata, factors.lengths, (factors.dims[0], 1))
            lengths = list(read(column, name, column.entry))
        for weight, length in zip(added, lengths, strict=True):
            yield name, (weight.name, Merged(module, weight, length))


def merge_of(weight: Weight) -> Merged | None:
    """How an adapter is merged into a weight; None where none is."""
    return next((edit for edit in weight.values_edits if isinstance(edit, Merged)), None)


def without_merge(weight: Weight) -> Weight:
    """The weight as its base holds it."""
    kept: tuple[ValuesEdit, ...] = tuple(edit for edit in weight.values_edits if not isinstance(edit, Merged))
    return replace(weight, values_edits=kept)


def _tensor(adapter: Adapter, name: str) -> Weight:
    """A tensor of the adapter as it is."""
    entry = adapter.stored.tensors[name]
    return Weight(name, adapter.stored, entry, entry.dtype, entry.dims)


def _trained_on(adapter: Adapter) -> str:
    base = adapter.config.get("base_model_name_or_path")
    return f", {base:.200}" if isinstance(base, str) and base else ""
