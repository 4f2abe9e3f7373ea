"""One tensor of a repaired file: which weights it holds, and how the file's own rules lay them out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rosetta.containers.container import TensorEntry
from rosetta.weight import Order, Part, Weight

EMBEDDING, HEAD, ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"


@dataclass(frozen=True)
class Held:
    """A canonical weight that a stored tensor holds.

    Args:
        weight: the repaired weight: where its bytes are and what makes canonical numbers of them.
        order: how a reader of the repaired file will reorder its rows.
        part: which part of a fused tensor it will be; None for a whole one.
        slot: which of how many stacked matrices it will be, or be part of; None where the tensor is one matrix.
    """

    weight: Weight
    order: Order | None = None
    part: Part | None = None
    slot: tuple[int, int] | None = None


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
