"""rosetta: where two files of one language model first differ, why, and a proof.

    import rosetta

    report = rosetta.compare("model.apr", "model.gguf", prompt="2+2=")
    report.verdict, [finding.message for finding in report.findings]

Importing this package imports nothing heavy; `torch` is loaded by the modules that compute.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosetta.api import compare as compare
    from rosetta.api import lint as lint
    from rosetta.api import open_model, trace
    from rosetta.lint.report import LintReport
    from rosetta.report.report import Report

__version__ = "0.1.0"
__all__ = ["LintReport", "Report", "__version__", "compare", "lint", "open_model", "trace"]

PACKAGES = ("compare", "lint")  # each the function of its name, too
PLACES = {
    "LintReport": "rosetta.lint.report",
    "Report": "rosetta.report.report",
    "open_model": "rosetta.api",
    "trace": "rosetta.api",
}


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is first asked for."""
    if name in PACKAGES:
        return importlib.import_module(f"rosetta.{name}")
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class CallablePackage(ModuleType):
    """A package that has the name of a function: `rosetta.compare(left, right)` compares, and
    `rosetta.compare.options` is a module of it, whichever is asked for first."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function of this name in `rosetta.api`."""
        return self._function()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """The function's, for help and completion."""
        return inspect.signature(self._function())

    def _function(self) -> Any:
        return getattr(importlib.import_module("rosetta.api"), self.__name__.rpartition(".")[2])


def make_callable(package: str) -> None:
    """Let a package of this one be called; it says so itself, so that it holds however it is imported."""
    sys.modules[package].__class__ = CallablePackage
