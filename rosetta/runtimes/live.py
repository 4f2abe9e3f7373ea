"""A run of somebody else's runtime as a recording: captured stage by stage into a file of its own, then read from it.

The recording lives as long as the program; its path, facts and notes are those of the model that was run.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from rosetta.architectures import INTERLEAVED, SPLIT_HALF
from rosetta.architectures.readings import Stored
from rosetta.containers import open_container
from rosetta.errors import RosettaError, UnsupportedError
from rosetta.model import Model, open_model
from rosetta.runtimes.observed.capture import Facts, Overwrite, Stage
from rosetta.runtimes.observed.graph import weight_layer, weight_stem
from rosetta.runtimes.observed.order import adjacent_pairs, split_halves
from rosetta.runtimes.torch import prompt_ids, run_facts
from rosetta.runtimes.trace import Recording, open_recording, write_trace
from rosetta.weight import RowOrder

LABELS = {"llamacpp": "LLAMA.CPP", "transformers": "TRANSFORMERS"}
ROTATED = ("q", "k", "q_rope", "k_rope")


def is_rotated(stage: str) -> bool:
    """Whether a stage is queries or keys, whose rows may lie in either order."""
    return stage.rpartition(".")[2] in ROTATED


def as_gguf_has_them(model: Model | None) -> Rotation:
    """The order of rotary rows in the GGUF file of a model."""
    if model is None:
        return NOT_TURNED
    if model.architecture.rope == INTERLEAVED:
        halves = model.architecture.folder_rope == SPLIT_HALF
        return Rotation(True, int(model["rope.dimension_count"]), halves)
    return Rotation(True) if _turned_by_converter(model) else NOT_TURNED


def _turned_by_converter(model: Model) -> bool:
    """Whether a folder's queries are read in another order of rows, though nothing rotates them."""
    for name, weight in model.weights.items():
        layer = weight_layer(name)
        if weight_stem(name) == "attn_q" and layer is not None:
            stored = Stored("attn_q", "weight", tuple(weight.dims), "huggingface", layer, True)
            found = model.architecture.readings(stored, model.settings_of(layer)) or ()
            return any(isinstance(reading.order, RowOrder) for reading in found)
    return False


class Capture(Protocol):
    """One run of a foreign runtime."""

    facts: Facts

    def __iter__(self) -> Iterator[Stage]: ...


@dataclass(frozen=True)
class Rotation:
    """How q and k of a runtime come into the order that they are compared in.

    Args:
        pairs: whether split halves are brought into adjacent pairs.
        dimensions: how many of a head are rotated; None: all.
        folder_halves: whether the rows of a folder, which transformers runs, lie in split halves, whichever of them it
            then turns together; None: as it turns them.
    """

    pairs: bool = False
    dimensions: int | None = None
    folder_halves: bool | None = None

    def turned(self, run: Capture) -> Iterator[tuple[str, Tensor]]:
        """Stages as tensors, q and k in that order. Where nothing is rotated, transformers has its folder's order."""
        for stage, value in run:
            tensor, rope = torch.from_numpy(value), run.facts.rope
            of_folder = run.facts.runtime == "transformers"
            halves = rope == "split_half" or (rope is None and of_folder)
            if of_folder and self.folder_halves is not None:
                halves = self.folder_halves
            yield stage, self.forth(stage, tensor) if halves else tensor

    def forth(self, stage: str, x: Tensor) -> Tensor:
        """A stage of the runtime in the order of the comparison."""
        turns = self.pairs and is_rotated(stage) and x.ndim == 3
        return adjacent_pairs(x, self.dimensions or x.shape[-1]) if turns else x

    def back(self, stage: str, x: Tensor) -> Tensor:
        """A stage of the comparison in the runtime's own order."""
        turns = self.pairs and is_rotated(stage) and x.ndim == 3
        return split_halves(x, self.dimensions or x.shape[-1]) if turns else x


NOT_TURNED = Rotation()


def known_options(runtime: str) -> frozenset[str]:
    """Names of the options that a runtime has."""
    return frozenset(importlib.import_module(f"rosetta.runtimes.{runtime}").OPTIONS)


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
    path = request.path
    run = capture(request, overwrite)
    model = known_model(path)
    with tempfile.TemporaryDirectory(prefix="rosetta-") as folder:
        file = Path(folder) / "run.safetensors"
        told = run_facts(model, str(path), request.prompt, request.ids, "float32") if model else {}
        facts = {**told, "tokens": list(request.ids), "prompt": request.prompt, "runtime": request.runtime}
        facts["runtime_options"] = {key: str(value) for key, value in run.facts.options.items()}
        count = write_trace(file, rotation.turned(run), facts)
        failure = run.facts.failure
        crashed = failure is not None and failure.kind == "crash"
        if not crashed and (failure is not None or count == 0):
            raise UnsupportedError(
                f"{request.runtime} does not run it: {failure.message if failure else 'it computed no stage'}",
                file=path,
                remedy="see what it says of the file by itself",
            )
        recording = open_recording(file)  # the file is gone from its folder, and stays open
    learned = {**recording.facts, "architecture": recording.architecture or run.facts.architecture}
    if crashed and failure is not None:
        learned["failure"] = {"message": failure.message, "printed": failure.printed}
    named = replace(
        recording, facts=learned, path=path, label=LABELS[request.runtime], notes=notes(run.facts)
    )
    return named, run.facts


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
