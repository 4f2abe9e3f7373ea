"""What a rule is, and what it gives: a fault, with the place where it lies.

A rule is one module below `rosetta/lint/rules/FAMILY/` with a `RULE` and one function that looks for it:
`faults(subject)` in what the headers say, `value_faults(seen)` in the values of one tensor, or neither, where only a
reader can see it (its sentence is then told by `refusals`), or `health_faults(health)` in what a tokenizer makes of a
text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rosetta.errors import one_line

if TYPE_CHECKING:
    from rosetta.lint.health import Health
    from rosetta.lint.subject import Subject
    from rosetta.lint.value_facts import SeenTensor

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """One thing that a model file must not have.

    Args:
        id: stable; its letter is that of its family: `F101`.
        name: `truncated`.
        severity: `error`: the file is wrong; `warning`: it may be.
        what: what is wrong, in one sentence.
        why: how it comes about, and what it costs.
        fix: what to do about it.
        refusals: regular expressions of what the readers say of it, where it keeps them from opening the file.
        reads_values: whether it takes a walk over all of the file's bytes, and runs with `--values` only.
        contradiction: whether it says that config and tensors contradict each other.
        consequence: whether what it finds may follow from such a contradiction, and is no fault of its own then.
    """

    id: str
    name: str
    severity: Severity
    what: str
    why: str
    fix: str
    refusals: tuple[str, ...] = ()
    reads_values: bool = False
    contradiction: bool = False
    consequence: bool = False


@dataclass(frozen=True)
class Fault:
    """A rule broken at one place.

    Args:
        message: what is wrong, in one sentence without a full stop.
        tensor: the file's name of the tensor concerned.
        key: the file's spelling of the key concerned.
        byte: of the file, where it begins.
        file: the shard or the folder's file concerned; None where it is the one that was given.
    """

    message: str
    tensor: str | None = None
    key: str | None = None
    byte: int | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Found:
    """A fault, the rule that it breaks, and the file."""

    rule: Rule
    fault: Fault
    path: Path

    @property
    def file(self) -> Path:
        """The file that a person has to look at."""
        return self.fault.file or self.path

    def line(self) -> str:
        """The fault in a line: `FILE:BYTE: ID tensor 'NAME': MESSAGE`."""
        fault = self.fault
        place = str(self.file) if fault.byte is None else f"{self.file}:{fault.byte}"
        subject = "".join(
            f"{what} {name!r}: "
            for what, name in (("tensor", fault.tensor), ("key", fault.key))
            if name is not None
        )
        return one_line(f"{place}: {self.rule.id} {subject}{fault.message}")


@dataclass(frozen=True)
class LoadedRule:
    """A rule with the functions that look for it."""

    rule: Rule
    faults: Callable[[Subject], Iterable[Fault]] | None = None
    value_faults: Callable[[SeenTensor], Iterable[Fault]] | None = None
    health_faults: Callable[[Health], Iterable[Fault]] | None = None
