"""Rows under headings: a table where it fits, a card for each row where it does not."""

from __future__ import annotations

from collections.abc import Sequence

from rosetta.errors import one_line

INDENT = "  "
RULED = 2  # lines of a table above its first row


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """Rows as lines, indented; nothing where there are no rows.

    A column that says nothing is left out. Where the table is too wide, the remarks of its last column go beneath their
    rows; where it still is, each row becomes a card.

    Args:
        headers: what stands in each column; empty for a remark that needs no name.
        rows: cells, as many as headers.
        width: columns of the screen; None: there is no end to a line.
    """
    if not rows:
        return []
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    said = [i for i, name in enumerate(headers) if name or any(row[i] for row in cells)]
    headers, cells = [headers[i] for i in said], [[row[i] for i in said] for row in cells]
    lines = _laid_out(headers, cells)
    if width is None or max(map(len, lines)) <= width:
        return lines
    if not headers[-1]:
        lines = _laid_out(headers[:-1], [row[:-1] for row in cells])
        if max(map(len, lines)) <= width:
            remarks = [f"{INDENT * 2}{row[-1]}" if row[-1] else "" for row in cells]
            beneath = [line for pair in zip(lines[RULED:], remarks, strict=True) for line in pair if line]
            return lines[:RULED] + beneath
    return [line for row in cells for line in _card(headers, row)]


def _laid_out(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Headings, a rule, and a line for each row."""
    from tabulate import tabulate  # 20 ms that only a table is worth

    text = tabulate(cells, headers, tablefmt="simple", disable_numparse=True)
    return [f"{INDENT}{line}".rstrip() for line in text.splitlines()]


def _card(headers: Sequence[str], row: Sequence[str]) -> list[str]:
    """One row, a line for each cell that says something; the first is marked."""
    names = max(map(len, headers))
    said = [(name, cell) for name, cell in zip(headers, row, strict=True) if cell]
    return [
        f"{INDENT}{'- ' if i == 0 else '  '}{name:<{names}}  {cell}" for i, (name, cell) in enumerate(said)
    ]
