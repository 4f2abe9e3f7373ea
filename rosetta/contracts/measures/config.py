"""`config`: what a model computes with, by GGUF key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.containers.values import TEXT
from rosetta.contracts.arguments import OPERAND
from rosetta.contracts.measures import Facts, Ground

ARGUMENTS = {"model": OPERAND, "key": TEXT}


def measure(arguments: Mapping[str, Any], ground: Ground) -> Facts:
    """`value` of `key` in `model` as float32 says it, and whether it is `defaulted`."""
    import numpy as np

    from rosetta.model import open_model

    model = open_model(ground.model(arguments["model"], "model"))
    try:
        found = model.config[arguments["key"]]
        value = found.value
        rounded = float(np.float32(value)) if isinstance(value, float | np.floating) else value
        return {"value": rounded, "defaulted": found.defaulted}
    finally:
        model.container.close()
