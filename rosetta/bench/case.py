"""One case of the benchmark: two files, the faults planted in one of them, and what must be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from fixtures import contents, model_spec
from fixtures.contents import FileContents
from fixtures.spec import ModelSpec
from rosetta.compare.results import Side


@lru_cache(maxsize=8)  # quantising is the slowest step of a case, and asked for several times
def whole(spec: ModelSpec, operand: str) -> FileContents:
    """The contents of a file without a fault."""
    return contents(spec, operand)


class NotHere(Exception):
    """A fault that this pair cannot have; another pair is drawn."""


class Shown(StrEnum):
    """What a planted fault does on its prompt, worked out from what was planted."""

    yes = "shown"
    """Its stage moves by more than the threshold: the verdict must be `divergent`."""
    small = "small"
    """Its stage moves visibly, but by less than twice the threshold: a finding is due, no verdict is held."""
    latent = "latent"
    """Its stage does not move on this prompt: a latent finding is due, and no `divergent`."""
    noise = "below the noise"
    """The dtypes explain as much: nothing is due but silence about everything else."""


@dataclass(frozen=True)
class Subject:
    """The pair before a fault: a model, the operand that will be faulty, the other one, what is run.

    `misplaced`: the faulty side is the one that is believed. `recorded`: of the other side there are only the
    stages of a run, no weights.
    """

    spec: ModelSpec
    operand: str
    other_operand: str
    side: Side
    ids: tuple[int, ...]
    prompt: str | None = None
    misplaced: bool = False
    recorded: bool = False

    @property
    def container(self) -> str:
        """`apr`, `gguf` or `hf` of the side that will be faulty."""
        kind = self.operand.partition(":")[0]
        return kind.partition("-")[0]

    @property
    def dtype(self) -> str:
        """Of the matrices of the side that will be faulty."""
        return self.operand.partition(":")[2]

    @property
    def file(self) -> FileContents:
        """The contents of the side that will be faulty, still whole."""
        return whole(self.spec, self.operand)

    @property
    def other(self) -> FileContents:
        """The contents of the side that stays whole."""
        return whole(self.spec, self.other_operand)


@dataclass(frozen=True)
class Cause:
    """What a finding must say.

    Args:
        kinds: its kind; several only where the file gives no way to tell them apart.
        subjects: its tensor or key; several where a fused tensor may go by its parts. Empty: any.
        partners: names of the other tensor of an exchange: either of the two may be the accused one.
    """

    kinds: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plant:
    """One planted fault.

    Args:
        kind: row of the table.
        faults: as `python -m fixtures --fault` spells them.
        causes: findings that are due.
        stage: the first stage that reads what was changed.
        touches: tensors and keys that it changes; two faults of one case share none.
        changes: fields of `fixtures.forward.Settings` that it changes, where its effect is to be measured.
        shown: what it does, where that is plain: it cannot be computed, or is gross; None: to be worked out.
        tolerated: tensors and keys that may be accused as well, because they are bound to the planted ones.
        combines: whether another fault may be planted beside it.
    """

    kind: str
    faults: tuple[str, ...]
    causes: tuple[Cause, ...]
    stage: str
    touches: frozenset[str]
    changes: Mapping[str, Any] = field(default_factory=dict)
    shown: Shown | None = Shown.yes
    tolerated: frozenset[str] = frozenset()
    combines: bool = True


@dataclass(frozen=True)
class Case:
    """What is built and compared.

    Args:
        kind: what was asked for: a finding kind, `two`, `three`, `cancelling`, `clean`.
        seed: from which it is drawn again.
        subject: the pair.
        plants: the faults; none in a clean control.
        shown: what the faults do on this prompt.
        stage: the first stage that is faulty; None in a clean control.
    """

    kind: str
    seed: int
    subject: Subject
    plants: tuple[Plant, ...]
    shown: Shown
    stage: str | None

    @property
    def row(self) -> str:
        """The row of the table that it counts in."""
        return self.kind if self.shown in (Shown.yes,) or not self.plants else self.shown.value

    @property
    def causes(self) -> tuple[Cause, ...]:
        return tuple(cause for plant in self.plants for cause in plant.causes)

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(fault for plant in self.plants for fault in plant.faults)


def spec_of(architecture: str, changes: Mapping[str, Any]) -> ModelSpec:
    """A spec with the sizes that were drawn."""
    return model_spec(architecture, **changes)
