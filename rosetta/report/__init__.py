"""The typed report and its outputs, one file each: an output is a module here with `OPTION` and `render`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosetta.report.report import Report


MADE_OF = ("build", "page_data", "report", "stored", "worst_stages")
"""What a report is and comes from: no outputs, and too slow for the program's start (torch, pydantic)."""


@dataclass(frozen=True)
class Output:
    """A form in which a report can be written to a file.

    Args:
        name: of the option (`json` is `--json`).
        help: the option's help text.
        render: a report -> the file's text.
        render_all: several reports by name -> one file's text; None where it holds one report alone.
        beside: several reports by name -> what else is written for them, by its path beside the file.
    """

    name: str
    help: str
    render: Callable[[Report], str]
    render_all: Callable[[Mapping[str, Report]], str] | None = None
    beside: Callable[[Mapping[str, Report]], dict[str, str]] | None = None


def outputs() -> list[Output]:
    """All outputs, by name: the modules of this package that say what their option does."""
    found = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.name in MADE_OF:
            continue
        imported = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(imported, "OPTION"):
            several = (getattr(imported, name, None) for name in ("render_all", "beside"))
            found.append(Output(module.name, imported.OPTION, imported.render, *several))
    return found
