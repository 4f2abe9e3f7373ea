"""What a captured run of a foreign runtime is, whichever runtime it was: stages as they come, facts, failure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rosetta.runtimes.observed.stage_table import BEFORE_LAYERS, HEAD, stage_rank

Float32 = NDArray[np.float32]
Stage = tuple[str, Float32]


@dataclass(frozen=True)
class Failure:
    """Why a runtime gave no run, or no whole one.

    Args:
        kind: `missing` (not installed), `load` (it refuses the file), `run` (it fails while computing),
            `crash` (its process died).
        message: one sentence.
        printed: what the runtime itself printed last.
    """

    kind: str
    message: str
    printed: str = ""


@dataclass
class Facts:
    """What is known of a run.

    Args:
        runtime: `llamacpp` or `transformers`.
        version: of the runtime.
        options: that were in force.
        architecture: as the runtime calls it.
        config: as the runtime sees it.
        rope: `interleaved` or `split_half`: the order of rotary pairs in q and k; None without rotation.
        rotary_dimensions: how many dimensions of a head are rotated, where the runtime says so.
        skipped: stage -> why it was not captured.
        operations: how stages are made of others with weights alone, see `operations.made_of_weights`.
        drawn: names of parameters that it found in no file, and filled with random numbers.
        failure: None if the run is whole.
    """

    runtime: str
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    rope: str | None = None
    rotary_dimensions: int | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    drawn: tuple[str, ...] = ()
    failure: Failure | None = None


class Capture(Protocol):
    """One run of a foreign runtime."""

    facts: Facts

    def __iter__(self) -> Iterator[Stage]: ...


def by_layer(stages: Iterator[Stage], expected: Sequence[str]) -> Iterator[Stage]:
    """Stages in the order of `expected`, handed on as soon as all of their layer are there.

    A runtime computes v before k, and a layer's last sum only shows its place in the next layer; what waits is one
    layer's stages.
    """
    places = {name: place for place, name in enumerate(expected)}
    waiting: dict[str, Float32] = {}
    done = 0
    for name, value in stages:
        if name not in places:
            continue  # a graph drawn anew may have what was not announced
        waiting[name] = value
        while done < len(expected) and expected[done] in waiting:
            yield expected[done], waiting.pop(expected[done])
            done += 1
        while len(waiting) > _MOST_WAITING:  # one that was promised never came
            done = min(places[name] for name in waiting)
            yield expected[done], waiting.pop(expected[done])
            done += 1
    for name in sorted(waiting, key=places.__getitem__):
        yield name, waiting[name]


_MOST_WAITING = 64


def layer_of(stage: str) -> int | None:
    """The layer of a stage by its name."""
    parts = stage.split(".", 2)
    return int(parts[1]) if len(parts) == 3 else None


def sort_key(stage: str) -> tuple[float, float]:
    """Where a stage stands in a run."""
    layer = layer_of(stage)
    if layer is not None:
        return layer, stage_rank(stage.split(".", 2)[2])
    return (-1, BEFORE_LAYERS.index(stage)) if stage in BEFORE_LAYERS else (math.inf, _head_rank(stage))


def _head_rank(stage: str) -> float:
    """Where a stage of the head stands; what a weight of the head is multiplied with comes before its product."""
    return HEAD.index(stage) if stage in HEAD else 0.5


def float32(value: NDArray[Any]) -> Float32:
    """A copy of its own, contiguous."""
    return np.array(value, dtype=np.float32, order="C")


Overwrite = Mapping[str, NDArray[Any]]
