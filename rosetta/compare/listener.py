"""Who hears how far a comparison has come: the terminal's load log and progress bar, or nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosetta.compare.in_parts import Value
    from rosetta.model import Model
    from rosetta.weight import Weight

ANY = -1
"""A dim that the config leaves open."""


@dataclass(frozen=True)
class LoadedTensor:
    """One tensor of an opened model, as its load log shows it.

    Args:
        name: canonical name (`blk.0.attn_q.weight`).
        source_name: the name that the file uses.
        dtype: declared dtype.
        dims: row-major, as stored.
        expected: row-major dims that the config's sizes ask for, `ANY` where they do not say; None where
            they say nothing of the tensor.
        in_out: whether the file itself says that it stores this matrix `[in, out]`; `expected` is then too.
        known: whether it is of the architecture; else nothing reads it.
    """

    name: str
    source_name: str
    dtype: str
    dims: tuple[int, ...]
    expected: tuple[int, ...] | None = None
    in_out: bool = False
    known: bool = True


class Listener:
    """Hears what a comparison does, and does nothing; subclasses show it."""

    def loaded(self, label: str, tensors: Iterable[LoadedTensor]) -> None:
        """A side has been opened and found sound.

        Args:
            label: how people call its container: `APR`, `GGUF`, `HF`.
            tensors: its tensors, in file order.
        """

    def working(self, what: str, done: int, total: int) -> None:
        """Work goes on.

        Args:
            what: the work at hand, for people: `layer 3`, `diagnosing layers.3.q`.
            done: units finished.
            total: units in all; 0 where that is not known.
        """

    def computed(self, stage: str, left: Value | None, right: Value | None) -> None:
        """A stage has been computed on both sides, each from its own inputs, before any repair.

        Args:
            stage: its full name.
            left, right: the values; None where a side lacks it or could not compute it.
        """


def loaded_tensors(model: Model) -> list[LoadedTensor]:
    """Every tensor of an opened model, in file order; a fused tensor under its fused name."""
    by_source: dict[str, Weight] = {}
    for weight in model.weights.values():
        by_source.setdefault(weight.entry.name, weight)
    tensors = []
    unknown = set(model.unread) if model.architecture.runs else set()
    for entry in model.container.tensors.values():
        if entry.name not in by_source or entry.name in unknown:
            known = entry.name not in unknown
            tensors.append(LoadedTensor(entry.name, entry.name, entry.dtype, entry.dims, known=known))
            continue
        weight = by_source[entry.name]
        fused = weight.part is not None
        name = weight.fused or weight.name if fused else weight.name
        reshaped = weight.stored_dims != entry.dims  # as the architecture reads it
        expected = None if fused or reshaped else model.expected_dims.get(weight.name)
        if expected is not None and weight.transposed:
            expected = expected[::-1]
        tensors.append(LoadedTensor(name, entry.name, entry.dtype, entry.dims, expected, weight.transposed))
    return tensors
