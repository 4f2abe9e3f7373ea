"""Who is believed, and which side that is: the one place where reference and subject become left and right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from rosetta.compare.results import Side  # pydantic's: help does without

Role = Literal["reference", "subject"]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Pairing(Generic[T]):
    """Something of the side that is believed, and of the other one.

    Args:
        reference, subject: the two.
        reference_side: which of left and right the reference is.
    """

    reference: T
    subject: T
    reference_side: Side

    @staticmethod
    def of(sides: dict[Side, T], reference_side: Side) -> Pairing[T]:
        """The pairing of what left and right have."""
        return Pairing(sides[reference_side], sides[other_side(reference_side)], reference_side)

    def by_side(self) -> dict[Side, T]:
        """The two as left and right."""
        found = {self.reference_side: self.reference, other_side(self.reference_side): self.subject}
        return {"left": found["left"], "right": found["right"]}

    def side(self, role: Role) -> Side:
        """Which side a role is."""
        return self.reference_side if role == "reference" else other_side(self.reference_side)

    def of_role(self, role: Role) -> T:
        """What the side of a role has."""
        return self.reference if role == "reference" else self.subject

    def with_both(self, reference: U, subject: U) -> Pairing[U]:
        """Something else of the same two sides."""
        return Pairing(reference, subject, self.reference_side)

    def each(self, make: Callable[[T], U]) -> Pairing[U]:
        """What a function makes of each."""
        return self.with_both(make(self.reference), make(self.subject))


def other_role(role: Role) -> Role:
    """Subject for reference, reference for subject."""
    return "subject" if role == "reference" else "reference"


def other_side(side: Side) -> Side:
    """Right for left, left for right."""
    return "right" if side == "left" else "left"
