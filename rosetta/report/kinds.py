"""Finding kinds in words: all of them in a line each, or one with what it means, why it happens, what undoes it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rosetta.finding_kind import FindingKind
from rosetta.settings_table import KEYS, Prompt

WIDTH = 100  # characters of a line


def listed(kinds: Iterable[FindingKind]) -> str:
    """Every kind with what it means, a line each."""
    rows = [(kind.id, kind.means) for kind in kinds]
    width = max((len(name) for name, _ in rows), default=0)
    return "".join(f"{name:{width}}  {means}\n" for name, means in rows)


def explained(kind: FindingKind) -> str:
    """All that is to be said of a kind."""
    said = {
        "What it means": [kind.means],
        "Why it happens": [kind.why],
        "How it is repaired": [kind.repair],
        "Settings": list(_settings(kind)),
    }
    parts = [f"# {kind.id} ({kind.headline})\n"]
    for heading, texts in said.items():
        if texts:
            parts.append(f"## {heading}\n" + "".join(_wrapped(text) for text in texts))
    return "\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False) + "\n"


def _settings(kind: FindingKind) -> Iterable[str]:
    """The settings that are wrong by this kind, and how long a prompt must be to show it."""
    for row in KEYS:
        if row.kind is kind:
            takes = "" if row.prompt is Prompt.ANY else f"; it takes {row.prompt.value}"
            yield f"{row.key}: a {row.value}{takes}"
