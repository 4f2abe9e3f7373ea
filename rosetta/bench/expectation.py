"""What a planted fault does on its prompt, worked out by fixtures' own forward pass and decoders."""

from __future__ import annotations

import math

import numpy as np

from fixtures.contents import FileContents
from fixtures.faults import fault_from_text
from fixtures.forward import effect, weights_of
from rosetta.bench.case import Plant, Shown, Subject, whole
from rosetta.compare.options import DEFAULT_THRESHOLD

GROUP = 32  # weights that share a scale
TELLABLE = 3.0  # a block's error over the worst of the clean copies' from which it must be seen
NO_EFFECT = 5e-6  # of a stage's rms: float32's own rounding (docs/noise.md) has the same size
SURELY_SEEN = 5.0  # times what the clean copies differ by at a stage, from which a setting must be seen
SURELY = 2.0  # times the threshold: below, it is left open on which side of it a stage comes out


def expectation(plant: Plant, subject: Subject) -> Shown:
    """What must come of it."""
    if plant.shown is not None:
        return plant.shown
    if plant.changes:
        moved, size = effect(plant.stage, subject.ids, subject.file, **plant.changes)
        clean = 0.0  # by which the stage's own weights differ: only norms have both weights and settings
        if plant.stage.endswith("norm"):
            clean, _ = effect(plant.stage, subject.ids, subject.file, subject.other)
        return beside_clean(moved, size, clean)
    damaged = broken(plant, subject)
    if visibility(plant, subject, damaged) < TELLABLE:
        return Shown.noise
    moved, size = effect(plant.stage, subject.ids, subject.file, damaged)
    return Shown.latent if moved == 0 else _by_size(moved, size)


def broken(plant: Plant, subject: Subject) -> FileContents:
    """The file with the fault in it.

    Raises:
        ValueError, KeyError: this file cannot have it.
    """
    file = subject.file
    for text in plant.faults:
        file = fault_from_text(text)(file)
    return file


def visibility(plant: Plant, subject: Subject, damaged: FileContents) -> float:
    """The largest error of a block of weights that the fault makes, over the largest that the clean copies show.

    Infinite where the clean copies are equal and some blocks still are, or where the fault is NaN: equal copies
    of one dtype leave no doubt, but a tensor that was quantised anew differs everywhere.
    """
    names = [name for name in plant.touches if name in weights_of(subject.file)]
    own = weights_of(subject.file)
    other, hurt = weights_of(subject.other), weights_of(damaged)
    fault = max(_worst_group(hurt[name] - own[name]) for name in names)
    if not math.isfinite(fault):
        return math.inf
    if _alike(other, own, names) and not all(_differs_everywhere(hurt[name], own[name]) for name in names):
        return math.inf if fault else 0.0
    noise = math.hypot(
        *(_rounding(subject, operand, names) for operand in (subject.operand, subject.other_operand))
    )
    return fault / noise if noise else math.inf


def _alike(other: dict[str, np.ndarray], own: dict[str, np.ndarray], names: list[str]) -> bool:
    """Whether both clean copies hold the same values, in whatever order of rows."""
    return all(
        np.array_equal(np.sort(own[name], axis=None), np.sort(other[name], axis=None))
        for name in names
        if name in other
    )


def _differs_everywhere(hurt: np.ndarray, own: np.ndarray) -> bool:
    """Whether every block of a quantised tensor is another one."""
    return bool((_by_group(hurt - own) > 0).all())


def _rounding(subject: Subject, operand: str, names: list[str]) -> float:
    """The largest rounding error of a block of these tensors in an operand."""
    exact = weights_of(whole(subject.spec, f"{operand.partition(':')[0]}:F32"))
    held = weights_of(whole(subject.spec, operand))
    return max(_worst_group(held[name] - exact[name]) for name in names)


def _worst_group(error: np.ndarray) -> float:
    return float(_by_group(error).max())


def _by_group(error: np.ndarray) -> np.ndarray:
    """Root mean square of each group."""
    flat = error.reshape(-1)
    padded = np.pad(flat, (0, -len(flat) % GROUP)).reshape(-1, GROUP)
    return np.asarray(np.sqrt(np.square(padded).mean(-1)))


def beside_clean(moved: float, size: float, clean: float) -> Shown:
    """What a setting does that moves a stage so far, where the clean copies differ by `clean` there."""
    if moved <= max(NO_EFFECT * size, clean):
        return Shown.latent
    return Shown.noise if moved < SURELY_SEEN * clean else _by_size(moved, size)


def _by_size(moved: float, size: float) -> Shown:
    limit = DEFAULT_THRESHOLD * max(1.0, size)
    return Shown.small if moved < SURELY * limit else Shown.yes
