"""What a recording may freely choose, each choice a module, found by listing this package.

A gauge is no fault: it is recognised from the recording as a whole, undone, and noted.
"""

from __future__ import annotations

import importlib
import pkgutil

from rosetta.model import Model
from rosetta.runtimes.trace import Recording


def settled(recording: Recording, model: Model, like: Model) -> Recording:
    """The recording with everything chosen as our transformer chooses it; its notes say what was turned.

    Modules have their say in the order of their names: fused stages come apart before their rows are ordered.

    Args:
        recording: of a run.
        model: what was recorded, as far as it is known.
        like: the model that it is compared with.
    """
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        recording = importlib.import_module(f"{__name__}.{module.name}").settled(recording, model, like)
    return recording
