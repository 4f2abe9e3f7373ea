"""The rules: every module below that has a `RULE`. A new one is a new file, and nothing else names it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from rosetta.lint.rule import LoadedRule

FAMILIES = {"F": "file", "C": "config", "T": "tokenizer", "V": "values"}


@cache
def all_rules() -> tuple[LoadedRule, ...]:
    """Every rule, by its id."""
    found = []
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        if module.ispkg:
            continue
        imported = importlib.import_module(module.name)
        functions = (getattr(imported, name, None) for name in ("faults", "value_faults", "health_faults"))
        found.append(LoadedRule(imported.RULE, *functions))
    return tuple(sorted(found, key=lambda loaded: loaded.rule.id))
