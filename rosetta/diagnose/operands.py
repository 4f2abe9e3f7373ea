"""Operands of the command line -> models: files and folders opened, a recorded run beside the model it is held to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rosetta.compare.listener import Listener, loaded_tensors
from rosetta.compare.options import AUTO, TRACE, Options, live
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Side
from rosetta.errors import UsageError
from rosetta.model import Model, build_model, open_model
from rosetta.runtimes.as_observed import as_observed
from rosetta.runtimes.dumps import Dump, open_dump, recorded_dump
from rosetta.runtimes.gauges import settled
from rosetta.runtimes.live import record, refuse_unknown, requested, run_or_read
from rosetta.runtimes.rotation import NOT_TURNED, as_gguf_has_them
from rosetta.runtimes.trace import Recording, open_recording, recorded_model
from rosetta.sources import located_here


def open_operands(operands: dict[Side, str], options: Options, listener: Listener) -> dict[Side, Model]:
    """Both sides, opened: `trace:FILE` is a recorded run, `llamacpp:FILE` one that is recorded now, everything else a
    file or folder.

    Raises:
        RosettaError: an operand is missing, damaged or unsupported, or neither has a model.
    """
    models: dict[Side, Model] = {}
    recordings: dict[Side, Recording] = {}
    dumps: dict[Side, Dump] = {}
    held_to_run = any(live(operand) for operand in operands.values())
    for side, operand in operands.items():
        listener.working(f"opening {operand}", 0, 0)
        if operand.startswith(TRACE):
            place = Path(operand.removeprefix(TRACE))
            dump = open_dump(place)
            if dump is None:
                recordings[side] = open_recording(place)
            else:
                dumps[side] = dump
        elif live(operand) is None:
            if held_to_run:
                models[side] = run_or_read(operand, options.run_as)
            else:
                models[side] = open_model(operand, run_as=options.run_as, must_run=False)
    runs = {side: run for side, operand in operands.items() if (run := live(operand)) is not None}
    if not models:
        raise UsageError("two traces have no model to run", remedy="compare a trace with a model file")
    if (runs or dumps) and options.tokens is None and options.prompt == AUTO:
        raise UsageError(
            "--prompt auto compares two configs, and a runtime or a dump tells none", remedy="give a prompt"
        )
    for side, dump in dumps.items():
        like = next(iter(models.values()))
        recordings[side] = recorded_dump(dump, like, options.prompt, options.tokens)
    refuse_unknown([runtime for runtime, _ in runs.values()], options.runtime_options)
    for side, (runtime, path) in runs.items():
        listener.working(f"running {operands[side]}", 0, 0)
        request = requested(
            runtime, located_here(path, runtime), options.prompt, options.tokens, options.runtime_options
        )
        like = next(iter(models.values()))
        order = as_gguf_has_them(like) if like.architecture.runs else NOT_TURNED
        recordings[side], _ = record(request, order)
    for model in models.values():
        listener.loaded(model.container.label, loaded_tensors(model))
    like = next(iter(models.values()))
    if recordings and not like.architecture.runs:
        [of_file] = models
        models[of_file] = like = as_observed(like, next(iter(recordings.values())))
    for side, recording in recordings.items():
        models[side] = recorded_model(recording, like)
        if side not in runs and like.architecture.runs:  # a runtime that is run here says what it chose
            models[side] = replace(models[side], container=settled(recording, models[side], like))
    return _of_one_class({side: models[side] for side in operands})


def _of_one_class(models: dict[Side, Model]) -> dict[Side, Model]:
    """The sides, a folder read as the other one's architecture where transformers runs it by the class of that, and
    says so: a converter that goes by the class makes a file of it that is right as well."""
    read = dict(models)
    for side, model in models.items():
        by, other = model.architecture.huggingface.run_by, models[other_side(side)].architecture
        container = model.container
        named = container.kind == "huggingface" and container.metadata.get("architectures") == [by]
        if by and named and other is not model.architecture and by in other.classes:
            read[side] = build_model(container, {"architecture": other.name})
    return read
