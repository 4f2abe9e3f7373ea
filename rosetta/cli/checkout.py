"""Finds the builders of test models and the benchmarks, which a checkout has and an installed wheel does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import rosetta
from rosetta.errors import UsageError


def load_fixtures() -> None:
    """Make `fixtures` of this checkout importable, whatever the working folder and other packages of that name.

    Raises:
        UsageError: this is no checkout.
    """
    start = Path(rosetta.__file__).resolve().parent.parent / "fixtures" / "__init__.py"
    loaded = sys.modules.get("fixtures")
    if loaded is not None and getattr(loaded, "__file__", None) == str(start):
        return
    if not start.is_file():
        raise UsageError(
            "bench builds its models with fixtures/, which an installed package does not have",
            remedy="run it from a checkout of the repository (pip install -e .)",
        )
    spec = importlib.util.spec_from_file_location(
        "fixtures", start, submodule_search_locations=[str(start.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fixtures"] = module
    spec.loader.exec_module(module)
