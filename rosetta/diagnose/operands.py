"""Operands of the command line -> models: files and folders opened, a recorded run beside the model it is held to."""

from __future__ import annotations

from pathlib import Path

from rosetta.compare.listener import Listener, loaded_tensors
from rosetta.compare.options import TRACE
from rosetta.compare.results import Side
from rosetta.errors import UsageError
from rosetta.model import Model, open_model
from rosetta.runtimes.trace import Recording, open_recording, recorded_model


def open_operands(operands: dict[Side, str], listener: Listener) -> dict[Side, Model]:
    """Both sides, opened; `trace:FILE` is a recorded run, everything else a file or folder.

    Raises:
        RosettaError: an operand is missing, damaged or unsupported, or neither has a model.
    """
    models: dict[Side, Model] = {}
    recordings: dict[Side, Recording] = {}
    for side, operand in operands.items():
        listener.working(f"opening {operand}", 0, 0)
        if operand.startswith(TRACE):
            recordings[side] = open_recording(Path(operand.removeprefix(TRACE)))
        else:
            models[side] = open_model(operand)
    if len(recordings) == 2:
        raise UsageError("two traces have no model to run", remedy="compare a trace with a model file")
    for model in models.values():
        listener.loaded(model.container.label, loaded_tensors(model))
    for side, recording in recordings.items():
        models[side] = recorded_model(recording, next(iter(models.values())))
    return {side: models[side] for side in operands}
