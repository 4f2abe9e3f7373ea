"""One comparison of a sweep: what is asked, under which id, as a command line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rosetta.compare.options import AUTO, DEFAULT_PROMPT

ID_DIGITS = 10  # hexadecimal ones of SHA-256: two of a million jobs share them once in two
LONGEST_SLUG = 48  # characters of an id that say what it is


@dataclass(frozen=True)
class Prompt:
    """What both sides of a job run.

    Args:
        name: of the column in the matrix.
        options: of `rosetta compare` that give it: `prompt`, `prompt-file` or `tokens`; none: the default prompt.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str | None:
        """Where the options say it; a file's and that of token ids are not known here."""
        text = self.options.get("prompt") if self.options else DEFAULT_PROMPT
        return None if text == AUTO else text


@dataclass(frozen=True)
class Job:
    """One comparison.

    Args:
        pair: name of the two.
        left, right: operands.
        prompt: what is run.
        options: of `rosetta compare` by long name, without dashes; a list is given once for each of its values.
        variant: which options it has that others of the pair may not have; of the row, not of the id.
    """

    pair: str
    left: str
    right: str
    prompt: Prompt
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    variant: str = ""

    @property
    def row(self) -> str:
        """Of the matrix: no other pair, and the same pair with no other options, has it."""
        return f"{self.pair} ({self.variant})" if self.variant else self.pair

    @cached_property
    def id(self) -> str:
        """The same for the same question on every machine and in every order of the manifest's keys; a file name."""
        asked = [self.left, self.right, dict(self.prompt.options), dict(self.options)]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.pair}-{self.prompt.name}").strip("-.")[:LONGEST_SLUG]
        return f"{slug}-{digest[:ID_DIGITS]}" if slug else digest[:ID_DIGITS]

    def report_in(self, folder: Path) -> Path:
        """Where its report lies."""
        return folder / f"{self.id}.json"

    def arguments(self, report: str) -> list[str]:
        """The command line, after the program's name.

        Args:
            report: the file that the report goes to.
        """
        found = ["compare"]
        for name, value in {**self.options, **self.prompt.options}.items():
            found += _as_arguments(name, value)
        return [*found, "-q", f"--json={report}", "--", self.left, self.right]


def _as_arguments(name: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is False or value is None:
        return []
    return [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
