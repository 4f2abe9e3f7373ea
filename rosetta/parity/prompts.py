"""The prompts of a parity run: four that are built in, or a file of lines of text or of JSON, or of one JSON list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosetta.errors import UsageError

LARGEST_FILE = 1 << 26  # bytes
REMEDY = 'a line is text, or {"prompt": TEXT} or {"ids": [ID, …]}, with "id", "expected_text", "expected_ids" beside it'


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Args:
        id: what the report calls it.
        text: None where ids were given alone.
        ids: to be run as they are, instead of each side's own of the text.
        expected_text, expected_ids: what a stored oracle goes on with.
    """

    id: str
    text: str | None
    ids: tuple[int, ...] | None = None
    expected_text: str | None = None
    expected_ids: tuple[int, ...] | None = None

    @property
    def has_oracle(self) -> bool:
        """Whether it is known what should be said."""
        return self.expected_text is not None or self.expected_ids is not None


BUILT_IN = (
    Prompt("arithmetic", "What is 2+2? Answer:"),
    Prompt("code", "def fibonacci(n):"),
    Prompt("completion", "The capital of France is"),
    Prompt("greeting", "Hello, my name is"),
)


def prompts_of(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file; empty lines count for nothing.

    Raises:
        UsageError: it is no file of prompts, or two of them have one id.
    """
    if not path.is_file():
        raise UsageError("is no file", file=path, remedy=REMEDY)
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"has {path.stat().st_size:,} bytes of prompts", file=path, remedy="split the file")
    found = tuple(_listed(path) or _lines(path))
    if not found:
        raise UsageError("has no prompts", file=path, remedy=REMEDY)
    seen: set[str] = set()
    for prompt in found:
        if prompt.id in seen:
            raise UsageError(
                f"has two prompts with the id {prompt.id!r}", file=path, remedy="name them apart"
            )
        seen.add(prompt.id)
    return found


def _listed(path: Path) -> list[Prompt]:
    """The prompts of a file that is one JSON list of objects; none where it is anything else."""
    data = path.read_bytes()
    if not data.lstrip().startswith(b"["):
        return []
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return []
    if not values or not all(isinstance(value, dict) for value in values):
        return []
    found = []
    for number, value in enumerate(values, 1):
        try:
            found.append(_from_json(value, f"prompt {number}"))
        except ValueError as error:
            raise UsageError(str(error), file=path, where=f"prompt {number}", remedy=REMEDY) from None
    return found


def _lines(path: Path) -> Iterator[Prompt]:
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise _bad(path, number, "is not UTF-8 text") from error
        if not line.lstrip().startswith("{"):
            yield Prompt(f"line {number}", line)
            continue
        try:
            yield _from_json(json.loads(line), f"line {number}")
        except (ValueError, RecursionError) as error:
            raise _bad(path, number, str(error)) from None


def _from_json(value: dict[str, Any], name: str) -> Prompt:
    """A prompt out of an object.

    Raises:
        ValueError: it is none.
    """
    unknown = sorted(set(value) - {"id", "prompt", "ids", "expected_text", "expected_ids"})
    if unknown:
        raise ValueError(f"has a field {unknown[0]!r}, which is none of a prompt")
    texts = {key: value.get(key) for key in ("id", "prompt", "expected_text")}
    for key, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{key!r} is no text")
    ids, expected = (_ids(key, value.get(key)) for key in ("ids", "expected_ids"))
    if texts["prompt"] is None and not ids:
        raise ValueError("has neither a text under 'prompt' nor ids under 'ids'")
    return Prompt(texts["id"] or name, texts["prompt"], ids, texts["expected_text"], expected)


def _ids(key: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(i) is int and 0 <= i < 1 << 31 for i in value):
        raise ValueError(f"{key!r} is no list of token ids")
    return tuple(value)


def _bad(path: Path, number: int, message: str) -> UsageError:
    return UsageError(message, file=path, where=f"line {number}", remedy=REMEDY)
