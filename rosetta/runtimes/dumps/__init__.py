"""Stages that somebody else's tool has dumped, each format a module, found by listing this package.

A dump is brought under our stage names as a recording. What it holds that is none of our stages is named as not
compared, and never guessed.
"""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor

from rosetta.errors import UsageError
from rosetta.model import Model
from rosetta.runtimes.torch import prompt_ids
from rosetta.runtimes.trace import Recording, open_recording, write_trace

NAMED = 6  # things that a note lists one by one


@dataclass
class Reading:
    """What was made of a dump.

    Args:
        left_out: what is no stage of ours -> why.
        notes: what else a reader should know.
    """

    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def said(self) -> tuple[str, ...]:
        """One sentence each; what was left out for one reason together."""
        why: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            why.setdefault(reason, []).append(name)
        return (
            *self.notes,
            *(
                f"not compared: {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''} ({reason})"
                for reason, names in why.items()
            ),
        )


class Dump(Protocol):
    """An opened dump."""

    @property
    def path(self) -> Path:
        """The file or folder."""
        ...

    @property
    def label(self) -> str:
        """Of the side, in a report: `APRT`."""
        ...

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """Its files, and where the data begins in each."""
        ...

    @property
    def tokens(self) -> Sequence[int] | None:
        """The token ids of the run, where the dump holds them."""
        ...

    def stages(self, like: Model, tokens: int, reading: Reading) -> Iterator[tuple[str, Tensor]]:
        """Its stages under our names.

        Args:
            like: the model that it is compared with.
            tokens: how many there are.
            reading: takes note of what is left out.

        Raises:
            UsageError: a stage is of another number of tokens.
            DamagedFileError: a file is not what its header says.
        """
        ...


class Format(Protocol):
    """A module of this package."""

    def recognises(self, path: Path) -> bool: ...
    def open(self, path: Path) -> Dump: ...


def open_dump(path: Path) -> Dump | None:
    """A dump that one of the formats recognises; None where none does.

    Raises:
        DamagedFileError: it is damaged, in one sentence.
    """
    found = next((module for module in _formats() if module.recognises(path)), None)
    return None if found is None else found.open(path)


@cache
def _formats() -> tuple[Format, ...]:
    modules = (
        importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    )
    return tuple(cast(Format, module) for module in modules)


def recorded_dump(dump: Dump, like: Model, prompt: str, tokens: Sequence[int] | None) -> Recording:
    """A dump as a recording.

    Args:
        dump: the dump.
        like: the model that it is compared with.
        prompt: that it was made of, where it holds no tokens: encoded by the model's own tokenizer.
        tokens: ids that it was made of, where they were given.

    Raises:
        UsageError: it is of other tokens than were given.
    """
    reading, own = Reading(), dump.tokens
    given = list(tokens) if tokens is not None else None
    text = None
    if own is not None:
        ids = list(own)
        if given is not None and given != ids:
            raise UsageError(
                "was dumped with other tokens", file=dump.path, remedy=f"leave out --tokens, or give {ids}"
            )
    elif given is not None:
        ids = given
    else:
        ids, text = prompt_ids(like.container, prompt), prompt
    if own is None:
        reading.notes.append(
            "names no tokens: those of the command line are taken for the ones it was made of"
        )
    with tempfile.TemporaryDirectory(prefix="rosetta-") as folder:
        file = Path(folder) / "run.safetensors"
        write_trace(file, dump.stages(like, len(ids), reading), {"tokens": ids, "prompt": text})
        recording = open_recording(file)  # the file is gone from its folder, and stays open
    return replace(
        recording, path=dump.path, label=dump.label, notes=reading.said(), sources=dump.data_starts
    )
