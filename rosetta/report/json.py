"""The report as JSON, for programs; `rosetta schema` says what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosetta.report.report import Report

OPTION = "Write the report as JSON."


def render(report: Report) -> str:
    """The report as strict JSON (RFC 8259), with a final line break."""
    return report.to_json()
