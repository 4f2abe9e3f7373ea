"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fixtures
import rosetta


def module_names() -> list[str]:
    """All modules but those that a run would start."""
    names = []
    for package in (rosetta, fixtures):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                names.append(module.name)
    return names


def test_docstring_examples() -> None:
    results, lacking = {}, {}
    for name in module_names():
        try:
            module = importlib.import_module(name)
            if ">>>" in inspect.getsource(module):  # to look for examples takes long
                results[name] = doctest.testmod(module)
        except ModuleNotFoundError as error:
            needed = str(error.name).partition(".")[0]
            assert needed not in ("rosetta", "fixtures"), name
            lacking[name] = needed  # of an extra
    failed = [name for name, result in results.items() if result.failed]
    assert failed == [], "see the captured output above"
    assert sum(result.attempted for result in results.values()) > 0
    if lacking:
        pytest.skip("all others pass: " + ", ".join(f"{name} needs {what}" for name, what in lacking.items()))
