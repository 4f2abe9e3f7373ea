"""Text for the screen at hand: no word cut at its edge, no mark that its encoding lacks."""

from __future__ import annotations

import re

MARKS: dict[str, str | int | None] = {
    "✓": "ok", "✗": "x", "→": "->", "…": "...", "×": "x", "≤": "<=", "≥": ">=", "σ": "sigma", "−": "-", "–": "-",
    "·": "*", "‖": "|",
}  # fmt: skip
"""Ours, and what says the same in ASCII; what a file's names hold is spelled out by the stream instead."""

_BREAK_AFTER = re.compile(r"(?<=[/._,:=|-])")


def in_ascii(text: str) -> str:
    """Text with our own marks in ASCII."""
    return text.translate(str.maketrans(MARKS))


def wrapped(text: str, width: int) -> str:
    """Lines no longer than a screen is wide, the rest of a line indented below it.

    Args:
        text: lines, each ended by a line break.
        width: columns.

    >>> wrapped("  Missing in GGUF: blk.0.attn_q.bias\\n", 24)
    '  Missing in GGUF:\\n    blk.0.attn_q.bias\\n'

    The rule below a table's head is cut.

    >>> wrapped("  ----  -----------\\n", 12)
    '  ----  ----\\n'
    """
    return "".join(f"{part}\n" for line in text.splitlines() for part in _cut(line, width))


def _cut(line: str, width: int) -> list[str]:
    """One line as several; spaces between words stay where no break is."""
    if len(line) <= width:
        return [line]
    if not line.strip(" -"):  # the rule of a table: what follows it is no row
        return [line[:width]]
    indent = line[: len(line) - len(line.lstrip())]
    deeper = indent + "  " if len(indent) + 2 <= width // 3 else indent[: width // 3]
    parts, current = [], indent
    for space, word in re.findall(r"(\s*)((?:[✗~→] )?\S+)", line[len(indent) :]):
        lead = space if current.strip() else ""
        if len(current) + len(lead) + len(word) <= width:
            current += lead + word
            continue
        if current.strip():
            parts.append(current)
            current = deeper
        *full, current = _pieces(current, word, width, deeper)
        parts += full
    return [*parts, current]


def _pieces(start: str, word: str, width: int, deeper: str) -> list[str]:
    """A word after what stands before it; one longer than a line is cut behind its punctuation, else where it must."""
    lines, current = [], start
    for piece in _BREAK_AFTER.split(word):
        if len(current) + len(piece) > width and current.strip():
            lines.append(current)
            current = deeper
        while len(current) + len(piece) > width:
            room = width - len(current)
            lines.append(current + piece[:room])
            current, piece = deeper, piece[room:]
        current += piece
    return [*lines, current]
