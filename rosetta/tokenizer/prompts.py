"""Prompts out of the command line or a file of JSON lines, their ids and pieces, and how both are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosetta.errors import UsageError, one_line
from rosetta.tokenizer.tokenizer import Tokenizer

_LARGEST_FILE = 1 << 28  # bytes of prompts; a file of that size takes minutes


@dataclass(frozen=True)
class TokenizedPrompt:
    """One prompt with its T token ids and the text of each."""

    prompt: str
    ids: list[int]
    tokens: list[str]


@dataclass(frozen=True)
class Prompt:
    """One prompt and where it was read: a line of a file, or None for the command line."""

    text: str
    file: str | None = None
    line: int | None = None

    def encoded(self, tokenizer: Tokenizer, special: bool) -> TokenizedPrompt:
        """The prompt's ids and pieces.

        Raises:
            UsageError: the text is no Unicode text; its line is named.
        """
        try:
            ids = tokenizer.encode(self.text, special)
        except UsageError as error:
            where = None if self.line is None else f"line {self.line}"
            raise UsageError(error.message, file=self.file, where=where, remedy=error.remedy) from error
        return TokenizedPrompt(self.text, ids, [tokenizer.piece(id) for id in ids])


def encoded_prompts(text: str | None, file: str | None) -> list[Prompt]:
    """The prompts that a command line asks for.

    Args:
        text: one prompt, also empty.
        file: a file with `{"prompt": TEXT}` on each line; empty lines count for nothing.

    Raises:
        UsageError: both or neither are given, or a line is none of that form.
    """
    if (text is None) == (file is None):
        raise UsageError("give either --prompt TEXT or --prompts FILE")
    if text is not None:
        return [Prompt(text)]
    assert file is not None
    return list(_prompts_in(Path(file)))


def to_json(prompts: Sequence[TokenizedPrompt]) -> str:
    """`{"prompts": [{"prompt", "ids", "tokens"}]}` and a line break."""
    rows = [{"prompt": each.prompt, "ids": each.ids, "tokens": each.tokens} for each in prompts]
    return json.dumps({"prompts": rows}, ensure_ascii=False) + "\n"


def to_text(prompts: Sequence[TokenizedPrompt]) -> str:
    """For each prompt its ids, then a line for each id with the piece it stands for."""
    lines: list[str] = []
    for each in prompts:
        width = max((len(str(id)) for id in each.ids), default=0)
        lines += [f"[ROSETTA] Prompt: {_quoted(each.prompt)}", f"[ROSETTA] Token IDs: {each.ids}"]
        lines += [
            f"  {id:>{width}}  {_quoted(token)}" for id, token in zip(each.ids, each.tokens, strict=True)
        ]
    return "".join(line + "\n" for line in lines)


def _prompts_in(path: Path) -> Iterator[Prompt]:
    if not path.is_file():
        raise UsageError("is no file", file=path, remedy="give a file of JSON lines")
    if path.stat().st_size > _LARGEST_FILE:
        raise UsageError(f"has {path.stat().st_size:,} bytes of prompts", file=path, remedy="split the file")
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            raise _bad_line(path, number, f"is no JSON ({error})") from None
        if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
            raise _bad_line(path, number, "is no object with a text under 'prompt'")
        yield Prompt(value["prompt"], str(path), number)


def _bad_line(path: Path, number: int, message: str) -> UsageError:
    return UsageError(message, file=path, where=f"line {number}", remedy='each line is {"prompt": TEXT}')


def _quoted(text: str) -> str:
    return f'"{one_line(text)}"'
