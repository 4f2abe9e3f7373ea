"""One tensor of a repaired file: which weights it holds, and how the file's own rules lay them out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from rosetta.containers.container import TensorEntry
from rosetta.edits import Reversible
from rosetta.row_order import Order, Part
from rosetta.weight import Weight

EMBEDDING, HEAD, ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"


@dataclass(frozen=True)
class Held:
    """A canonical weight that a stored tensor holds.

    Args:
        weight: the repaired weight: where its bytes are and what makes canonical numbers of them.
        order: how a reader of the repaired file will reorder its rows.
        part: which part of a fused tensor it will be; None for a whole one.
        edit: what a reader of the repaired file will make of the stored values.
        slot: which of how many stacked matrices it will be, or be part of; None where the tensor is one matrix.
    """

    weight: Weight
    order: Order | None = None
    part: Part | None = None
    slot: tuple[int, int] | None = None
    edit: Reversible | None = None

    def as_stored(self) -> Held:
        """The same with a weight whose values are those to be stored: a logarithm where a reader takes exp."""
        edits = self.weight.values_edits
        if self.edit is None:
            return self
        if edits == (self.edit,):
            return replace(self, weight=replace(self.weight, values_edits=()))
        return replace(self, weight=replace(self.weight, values_edits=(*edits, Undone(self.edit))))


@dataclass(frozen=True)
class Undone:
    """Canonical values as they are stored, for a reader that edits what it reads.

    Args:
        edit: the reader's.
    """

    edit: Reversible

    def touches(self, start: int, stop: int) -> bool:
        """See `ValuesEdit.touches`."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """See `ValuesEdit.values`."""
        return self.edit.stored(values, start)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """See `ValuesEdit.sigma`: of the canonical values, which are what is compared."""
        return sigma


@dataclass(frozen=True)
class Planned:
    """A tensor to be written.

    Args:
        name: as the file spells it.
        original: the tensor of that name in the file to be repaired; None for one that is added.
        held: the weights that it is made of anew, in the order of their rows; none: its bytes are copied.
        transposed: whether a reader of the repaired file will turn it.
    """

    name: str
    original: TensorEntry | None
    held: tuple[Held, ...] = ()
    transposed: bool = False

    @property
    def is_copied(self) -> bool:
        """Whether no repair concerns it."""
        return not self.held

    def slots(self) -> list[Planned]:
        """Each of the matrices that are stacked in it as a tensor by itself; none where it is one matrix."""
        numbers = sorted({held.slot[0] for held in self.held if held.slot is not None})
        return [
            replace(self, held=tuple(held for held in self.held if held.slot and held.slot[0] == number))
            for number in numbers
        ]
