"""Rows under headings: a table where it fits, a card for each row where it does not."""

from __future__ import annotations

from collections.abc import Sequence

INDENT = "  "


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """Rows as lines, indented; nothing where there are no rows.

    Args:
        headers: what stands in each column; empty for a remark that needs no name.
        rows: cells, as many as headers.
        width: columns of the screen; None: there is no end to a line.
    """
    if not rows:
        return []
    from tabulate import tabulate  # 20 ms that only a table is worth

    cells = [[str(cell) for cell in row] for row in rows]
    text = tabulate(cells, headers, tablefmt="simple", disable_numparse=True)
    lines = [f"{INDENT}{line}".rstrip() for line in text.splitlines()]
    if width is None or max(map(len, lines)) <= width:
        return lines
    return [line for row in cells for line in _card(headers, row)]


def _card(headers: Sequence[str], row: Sequence[str]) -> list[str]:
    """One row, a line for each cell that says something; the first is marked."""
    names = max(map(len, headers))
    said = [(name, cell) for name, cell in zip(headers, row, strict=True) if cell]
    return [
        f"{INDENT}{'- ' if i == 0 else '  '}{name:<{names}}  {cell}" for i, (name, cell) in enumerate(said)
    ]
