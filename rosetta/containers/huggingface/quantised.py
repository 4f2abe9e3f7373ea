"""A quantised Hugging Face folder as it would be were it not: each packed weight one tensor under its own name, decoded
row by row as its scheme says; the tensors that it is made of are none of their own.

Letters: R = rows, C = columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from threading import local
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rosetta.blocks.schemes import Folder, OtherParts, Packed, Parts, Way, packing_of
from rosetta.containers.container import ContainerDefaults, Place, Setting, TensorEntry
from rosetta.containers.huggingface.misstated import misstated
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.containers.span import slice_of
from rosetta.dtypes import DTYPES, FLOATS, PAIR, flat_bytes
from rosetta.errors import UnsupportedError
from rosetta.lazily import TorchDtypes, torch

if TYPE_CHECKING:
    from torch import Tensor

READ_AT_ONCE = 1 << 22  # bytes of a tensor of which some columns are wanted
# torch's types of what safetensors holds and DTYPES has no torch name for
TYPES = TorchDtypes(
    {
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "uint8",
        "U32": "int32",  # torch has few operations on unsigned words, and codes are bits
        "U16": "int16",
    }
)


@dataclass(frozen=True)
class StoredParts:
    """The tensors of a folder, as a scheme reads them; see `rosetta.blocks.schemes.Parts`."""

    stored: HuggingFaceContainer

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows of a tensor, [rows, C]; the numbers of a vector, [rows]; those of a scalar, [1]."""
        entry = self.stored.tensors[name]
        width = entry.dims[-1] if len(entry.dims) > 1 else 1
        count = prod(entry.dims[:-1]) if len(entry.dims) > 1 else prod(entry.dims)
        stop = count if stop is None else min(stop, count)
        numbers = self._numbers(entry, start * width, max(start, stop) * width)
        return numbers.view(-1, width) if len(entry.dims) > 1 else numbers

    def columns(self, name: str, start: int, stop: int) -> Tensor:
        """Columns of a matrix, [R, columns], of which a few megabytes are read at a time."""
        entry = self.stored.tensors[name]
        rows, width = entry.dims
        stop, step = min(stop, width), max(1, READ_AT_ONCE // max(1, width * DTYPES[entry.dtype].type_size))
        pieces = [
            self.rows(name, first, min(first + step, rows)).view(-1, width)[:, start:stop]
            for first in range(0, rows, step)
        ]
        return torch.cat(pieces) if pieces else torch.empty((0, stop - start), dtype=_type(entry))

    def _numbers(self, entry: TensorEntry, first: int, last: int) -> Tensor:
        size = DTYPES[entry.dtype].type_size
        data = self.stored.read(entry.name, first * size, (last - first) * size)
        return torch.from_numpy(data).view(_type(entry))


def _type(entry: TensorEntry) -> torch.dtype:
    return TYPES.get(entry.dtype) or getattr(torch, str(DTYPES[entry.dtype].number))


class QuantisedContainer(ContainerDefaults):
    """An open folder whose weights are packed by a scheme.

    Args:
        stored: the folder as it is.
        config: its `quantization_config`.

    Raises:
        UnsupportedError: the scheme, or a field of it, is none that rosetta decodes.
        DamagedFileError: the tensors of a weight contradict each other.
    """

    kind = "huggingface"
    label = "HF"

    def __init__(self, stored: HuggingFaceContainer, config: Mapping[str, Any]) -> None:
        self.stored, self.path, self.metadata = stored, stored.path, stored.metadata
        self.architecture, self.file_bytes = stored.architecture, stored.file_bytes
        self.settings: Mapping[str, Setting] = stored.settings
        self._parts: Parts = StoredParts(stored)
        self._kept = local()
        # What is read in place of stored tensors: a repair.
        self.others: Mapping[str, Tensor] = MappingProxyType({})
        folder = Folder(stored.path, config, stored.tensors, self._parts)
        packing = packing_of(folder)
        self.scheme = packing.words
        self.packed: Mapping[str, Packed] = MappingProxyType(
            {weight.name: weight for weight in packing.weights}
        )
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(self._entries())
        self.absent = stored.absent
        self.misstated = tuple(misstated(folder, packing.weights))
        self.notes: tuple[str, ...] = (
            *stored.notes,
            f"{len(self.packed)} of {len(self.tensors)} tensors are quantised: {packing.words}",
            *(f"{wrong.key} {wrong.said}" for wrong in self.misstated),
        )

    def _entries(self) -> dict[str, TensorEntry]:
        """Packed weights where the first of their tensors lies, and what is no part of any."""
        owner = {part: weight for weight in self.packed.values() for part in weight.parts.values()}
        entries: dict[str, TensorEntry] = {}
        for name, entry in self.stored.tensors.items():
            weight = owner.get(name)
            if weight is None:
                entries[name] = entry
            elif weight.name not in entries:
                held = sum(self.stored.tensors[part].nbytes for part in weight.parts.values())
                count = prod(weight.dims)
                entries[weight.name] = TensorEntry(
                    weight.name, weight.dtype, weight.dims, count * PAIR, held=held
                )
        return entries

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`; of a packed weight pairs of float32, its values and their rounding, or blocks."""
        weight = self.packed.get(name)
        if weight is None:
            return self.stored.read(name, start, nbytes)
        start, size = slice_of(self.tensors[name], start, nbytes)
        if not size:
            return np.empty(0, np.uint8)
        row_bytes = self.tensors[name].nbytes // weight.rows
        first, last = start // row_bytes, -(-(start + size) // row_bytes)
        as_blocks = self.tensors[name].dtype == weight.ggml
        rows = self._blocks(weight, first, last) if as_blocks else self._pairs(weight, first, last)
        return rows[start - first * row_bytes :][:size].copy()

    def _blocks(self, weight: Packed, first: int, last: int) -> NDArray[np.uint8]:
        """Some rows as ggml's blocks."""
        found: NDArray[np.uint8] = weight.blocks(self._parts, first, last).numpy().reshape(-1)
        return found

    def _pairs(self, weight: Packed, first: int, last: int) -> NDArray[np.uint8]:
        """Values and rounding of some rows. The last ones of a thread are kept: whoever wants the values of rows mostly
        wants their rounding next, and both are worked out at once."""
        wanted = (weight, first, last)
        if getattr(self._kept, "wanted", None) != wanted:
            pairs = torch.stack(weight.numbers(self._parts, first, last), dim=-1)
            self._kept.wanted, self._kept.pairs = wanted, pairs.numpy().reshape(-1).view(np.uint8)
        kept: NDArray[np.uint8] = self._kept.pairs
        return kept

    def read_otherwise(self, name: str, way: Way) -> QuantisedContainer:
        """The same folder, one packed weight of which is read in another way."""
        return self.read_as(replace(self.packed[name], way=way))

    def read_as(self, weight: Packed, others: Mapping[str, Tensor] | None = None) -> QuantisedContainer:
        """The same folder, one packed weight of which is another, or is made of other tensors.

        Args:
            weight: under the name of the one that it takes the place of.
            others: what is read in place of stored tensors, by their names.
        """
        other = copy(self)
        other.packed = MappingProxyType({**self.packed, weight.name: weight})
        if others:
            other.others = MappingProxyType({**self.others, **others})
            other._parts = OtherParts(StoredParts(self.stored), other.others)
        other._kept = local()
        return other

    def part(self, name: str) -> Tensor:
        """All numbers of a stored tensor, or of what is read in its place, of its own dims."""
        return self._parts.rows(name).reshape(self.stored.tensors[name].dims)

    def in_blocks(self) -> QuantisedContainer:
        """The same folder, its packed weights as blocks of ggml's where there are some that hold the same codes."""
        other = copy(self)
        other.tensors = MappingProxyType(
            {name: self._block_entry(name) or entry for name, entry in self.tensors.items()}
        )
        return other

    def _block_entry(self, name: str) -> TensorEntry | None:
        weight = self.packed.get(name)
        if weight is None or weight.ggml is None:
            return None
        size = flat_bytes(weight.ggml, weight.dims)
        return TensorEntry(name, weight.ggml, weight.dims, size, held=self.tensors[name].held)

    def place(self, name: str) -> tuple[Path, int]:
        """The file that holds a tensor, and where; of a packed weight, where its codes are."""
        weight = self.packed.get(name)
        return self.stored.place(name if weight is None else weight.parts["codes"])

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`."""
        return self.stored.data_starts

    def places(self, name: str) -> Mapping[str, Place]:
        """See `Container`: of a packed weight those of its codes, its scales …"""
        weight = self.packed.get(name)
        parts = [name] if weight is None else weight.parts.values()
        return {own: place for part in parts for own, place in self.stored.places(part).items()}

    def all_places(self) -> Mapping[str, Place]:
        """See `Container`."""
        return self.stored.all_places()

    def close(self) -> None:
        """Release the files."""
        self.stored.close()


def as_if_plain(
    stored: HuggingFaceContainer, config: Mapping[str, Any]
) -> HuggingFaceContainer | QuantisedContainer:
    """The folder with its packed weights decoded. Where rosetta does not decode them it is opened as it is, for
    inspection, and says in `refusal` why it cannot be run.

    Raises:
        DamagedFileError: the tensors of a weight contradict each other.
    """
    try:
        return QuantisedContainer(stored, config)
    except UnsupportedError as error:
        if any(entry.dtype not in FLOATS for entry in stored.tensors.values()):
            stored.refusal = error
        else:
            stored.notes += (
                f"it {error.message}, says config.json; all tensors are plain and read as they are",
            )
        return stored
    except BaseException:
        stored.close()
        raise
