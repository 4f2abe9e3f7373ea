"""A run of somebody else's runtime as a recording: captured stage by stage into a file of its own, then read from it.

The recording lives as long as the program; its path, facts and notes are those of the model that was run.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rosetta.containers import open_container
from rosetta.containers.container import Container
from rosetta.errors import RosettaError, UnsupportedError, UsageError
from rosetta.model import Model, open_model, open_weights
from rosetta.runtimes.coarseness import coarseness
from rosetta.runtimes.observed.capture import Capture, Facts, Failure, Overwrite
from rosetta.runtimes.rotation import NOT_TURNED, Rotation, as_gguf_has_them
from rosetta.runtimes.torch import prompt_ids, run_facts
from rosetta.runtimes.trace import Recording, open_recording, write_trace
from rosetta.weight import Weight

LABELS = {"llamacpp": "LLAMA.CPP", "transformers": "TRANSFORMERS"}


def known_options(runtime: str) -> frozenset[str]:
    """Names of the options that a runtime has."""
    return frozenset(importlib.import_module(f"rosetta.runtimes.{runtime}").OPTIONS)


def refuse_unknown(runtimes: Sequence[str], given: Mapping[str, str]) -> None:
    """Refuse an option that none of the runtimes at hand has.

    Raises:
        UsageError: there is one.
    """
    known = sorted({name for runtime in runtimes for name in known_options(runtime)})
    for name in given:
        if name not in known:
            remedy = (
                f"give one of {', '.join(known)}" if known else "give an operand such as llamacpp:FILE.gguf"
            )
            raise UsageError(f"no runtime at hand has an option '{name}'", remedy=remedy)


def capture(request: Request, overwrite: Overwrite | None) -> Capture:
    """A run that is about to begin.

    Raises:
        UsageError: the runtime is not installed, or has no such option.
    """
    package = importlib.import_module(f"rosetta.runtimes.{request.runtime}")
    made: Capture = package.capture(request.path, request.ids, request.options, overwrite)
    return made


@dataclass(frozen=True)
class Request:
    """What a runtime is to run.

    Args:
        runtime: `llamacpp` or `transformers`.
        path: the model.
        ids: tokens.
        prompt: the text that they are of; None where they were given.
        options: of the runtime.
    """

    runtime: str
    path: Path
    ids: Sequence[int]
    prompt: str | None
    options: Mapping[str, str]


def requested(
    runtime: str, path: Path, prompt: str, tokens: Sequence[int] | None, options: Mapping[str, str]
) -> Request:
    """A request, with the prompt in the model's own tokens.

    Args:
        runtime, path: see `Request`.
        prompt: what to run.
        tokens: ids to run instead.
        options: given ones, those of other runtimes among them.

    Raises:
        UsageError: the model has no tokenizer, or the prompt has no tokens.
    """
    own = options_of(runtime, options)
    if tokens is not None:
        return Request(runtime, path, list(tokens), None, own)
    return Request(runtime, path, own_ids(path, prompt), prompt, own)


def record(
    request: Request, rotation: Rotation = NOT_TURNED, overwrite: Overwrite | None = None
) -> tuple[Recording, Facts]:
    """Run a model in its runtime, and open what was recorded of it.

    Args:
        request: what to run.
        rotation: how q and k come into the order that they are compared in.
        overwrite: stage -> values, in the runtime's own order, to go on with in its place.

    Raises:
        UsageError: the runtime is not installed, or has no such option.
        UnsupportedError: the runtime does not run the model; it says why. One whose process dies is recorded as far as
            it came, and the recording's facts say how it died.
    """
    model = known_model(request.path)
    ran = model or read_model(request.path)
    with tempfile.TemporaryDirectory(prefix="rosetta-") as folder:
        file = Path(folder) / "run.safetensors"
        told = _told(request, model, lambda weight: {"dtype": weight.dtype})
        _, facts = written(file, request, told, rotation, overwrite, crashed=True)
        recording = open_recording(file)  # the file is gone from its folder, and stays open
    learned = dict(recording.facts)
    if facts.failure is not None:
        learned["failure"] = {"message": facts.failure.message, "printed": facts.failure.printed}
    label = LABELS[request.runtime]
    return replace(recording, facts=learned, path=request.path, label=label, ran=ran), facts


def written(
    file: Path,
    request: Request,
    told: Mapping[str, Any],
    rotation: Rotation = NOT_TURNED,
    overwrite: Overwrite | None = None,
    *,
    crashed: bool = False,
) -> tuple[int, Facts]:
    """Run a model in its runtime, and write what is captured of it as a trace.

    Args:
        file: the trace to be written.
        told: what rosetta knows of the model that is run.
        request, rotation, overwrite: see `record`.
        crashed: whether one whose process dies is written as far as it came.

    Returns:
        How many stages there are, and what is known of the run.

    Raises:
        UsageError: the runtime is not installed, or has no such option.
        UnsupportedError: the runtime does not run the model; it says why.
    """
    run = capture(request, overwrite)
    facts = {
        **told,
        "operand": f"{request.runtime}:{request.path}",
        "tokens": list(request.ids),
        "prompt": request.prompt,
        "runtime": request.runtime,
    }

    def stages() -> Iterator[tuple[str, torch.Tensor]]:
        count = 0
        for count, stage in enumerate(rotation.turned(run), 1):  # noqa: B007  it is wanted behind the loop
            yield stage
        _refuse_failed(request, count, run.facts.failure, crashed)
        # Known once it has run.
        facts.setdefault("architecture", run.facts.architecture)
        facts["runtime_options"] = {key: str(value) for key, value in run.facts.options.items()}
        facts["operations"] = run.facts.operations
        if run.facts.drawn:
            facts["drawn"] = list(run.facts.drawn)
        if not told and run.facts.rope is not None:
            facts["rope_order"] = run.facts.rope
        facts["notes"] = list(notes(run.facts))

    return write_trace(file, stages(), facts), run.facts


def _told(
    request: Request, model: Model | None, of_weight: Callable[[Weight], dict[str, Any]] = coarseness
) -> dict[str, Any]:
    """What rosetta knows of a model that is run elsewhere; nothing where it does not read it."""
    if model is None:
        return {}
    return run_facts(model, "", request.prompt, request.ids, "float32", of_weight)


def _refuse_failed(request: Request, count: int, failure: Failure | None, crashed: bool) -> None:
    if not (failure is not None and failure.kind == "crash" and crashed) and (failure or not count):
        raise UnsupportedError(
            f"{request.runtime} does not run it: {failure.message if failure else 'it computed no stage'}",
            file=request.path,
            remedy="see what it says of the file by itself",
        )


def what_was_run(container: Container) -> tuple[str, Path | None] | None:
    """(runtime, model) of a recorded run of somebody else's runtime, as it says itself; None of anything else.

    The model is None where it does not say which.
    """
    runtime = container.metadata.get("runtime") if container.kind == "trace" else None
    if runtime not in LABELS:
        return None
    stated = container.metadata.get("operand")
    path = stated.removeprefix(f"{runtime}:") if isinstance(stated, str) else stated
    return str(runtime), Path(path) if isinstance(path, str) and path != stated else None


def traced(request: Request, file: Path) -> int:
    """Run a model in its runtime, and write its stages as a trace of that model: queries and keys in GGUF's order.

    Args:
        request: what to run.
        file: the trace to be written.

    Returns:
        How many stages there are.

    Raises:
        RosettaError: see `written`.
    """
    model = known_model(request.path)
    count, _ = written(file, request, _told(request, model), as_gguf_has_them(model))
    return count


def own_ids(path: Path, prompt: str) -> list[int]:
    """The prompt in the tokens of a file, whether or not rosetta knows how to run it.

    Raises:
        UsageError: it has no tokenizer, or the prompt has no tokens.
    """
    container = open_container(path)
    try:
        return prompt_ids(container, prompt)
    finally:
        container.close()


def known_model(path: Path) -> Model | None:
    """The model as rosetta reads it; None where it does not know the architecture or cannot read the file."""
    try:
        return open_model(path)
    except RosettaError:
        return None


def read_model(path: Path) -> Model | None:
    """The model, the weights alone where rosetta does not run it; None where it cannot read the file."""
    try:
        return run_or_read(path)
    except RosettaError:
        return None


def run_or_read(path: str | Path, run_as: str | None = None) -> Model:
    """A model that a run is held to: the weights alone where rosetta does not run it, as no more of it is needed.

    Raises:
        RosettaError: it cannot be read; why it is not run, where that keeps it from being read as well.
    """
    try:
        return open_model(path, run_as=run_as, must_run=False)
    except UnsupportedError as why:
        try:
            return open_weights(path)
        except RosettaError:
            raise why from None


def notes(facts: Facts) -> tuple[str, ...]:
    """What was in force, and what was not captured: one sentence each."""
    settings = ", ".join(f"{key} {value}" for key, value in facts.options.items())
    said = [f"run by {facts.runtime} {facts.version}: {settings}"]
    why: dict[str, list[str]] = {}
    for stage, reason in facts.skipped.items():
        why.setdefault(reason, []).append(stage)
    said += [
        f"{len(stages)} stages are not offered, the first {stages[0]}: {reason}"
        for reason, stages in why.items()
    ]
    return tuple(said)


def options_of(runtime: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Those of the given options that a runtime has."""
    known = known_options(runtime)
    return {key: value for key, value in given.items() if key in known}
