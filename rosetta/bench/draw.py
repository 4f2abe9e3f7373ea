"""Draws cases: a kind and a seed give one case, whatever else is drawn."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from rosetta.bench.case import Case, NotHere, Plant, Shown, Subject
from rosetta.bench.expectation import broken, expectation
from rosetta.bench.kinds import Drawer, all_kinds
from rosetta.bench.kinds._choosing import one
from rosetta.bench.kinds.tokenizer import with_prompt
from rosetta.bench.pairs import draw_subject
from rosetta.bench.reads import place
from rosetta.errors import UsageError

CLEAN = "clean"
HEAD = "output.weight"
COMBINED = {"two faults": 2, "three faults": 3}
BELIEVED = "on the believed side"
CONTRADICTING = (
    "config.head_count_kv",
    "layout.dims_swapped",
    "layout.transposed",
    "value.missing",
    "value.nonfinite",
    "value.zeroed",
)
"""Kinds by which a file contradicts itself: its side is to be named although it is the believed one."""
RECORDED = "against a recorded run"
FROM_ACTIVATIONS = (
    "config.activation",
    "config.attention_scale",
    "config.norm_epsilon",
    "config.rope_theta",
    "dtype.mislabeled",
    "layout.transposed",
    "value.scaled",
)
"""Kinds that can be told without the other side's weights."""
MOST_DRAWS = 2000


def kinds() -> tuple[str, ...]:
    """Everything that can be asked for, in the order of the table."""
    return (*all_kinds(), *COMBINED, BELIEVED, RECORDED, CLEAN)


def draw_case(kind: str, seed: int) -> Case:
    """The case of a kind and a seed.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in kinds():
        raise UsageError(f"no kind '{kind}'", remedy=f"there are {', '.join(kinds())}")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    for _ in range(MOST_DRAWS):
        try:
            return _drawn(kind, seed, rng, draw_subject(rng))
        except (NotHere, ValueError, KeyError):
            continue  # this pair cannot have it, or a dtype cannot hold what the fault leaves
    raise UsageError(f"no pair was found that can have '{kind}'", remedy="try another --seed")


def _drawn(kind: str, seed: int, rng: Generator, subject: Subject) -> Case:
    if kind == CLEAN:
        return Case(kind, seed, subject, (), Shown.yes, None)
    if kind in COMBINED:
        return _combined(kind, seed, rng, subject)
    if kind == BELIEVED:
        return _believed(seed, rng, subject)
    if kind == RECORDED:
        return _recorded(seed, rng, subject)
    return _single(kind, seed, rng, subject)


def _single(kind: str, seed: int, rng: Generator, subject: Subject) -> Case:
    if kind.startswith("tokenizer."):
        subject = with_prompt(rng, subject)
    plant = _or_tied(all_kinds()[kind](rng, subject), subject)
    broken(plant, subject)
    return Case(kind, seed, subject, (plant,), expectation(plant, subject), plant.stage)


def _or_tied(plant: Plant, subject: Subject) -> Plant:
    """A tied model's `.apr` may hold a copy of the embedding as its head: of a copy that is wrong it is as true to
    say that a tied head is wrongly stored."""
    if not (subject.spec.tied and subject.container == "apr" and HEAD in plant.touches):
        return plant
    causes = tuple(
        replace(
            cause,
            kinds=(*cause.kinds, "config.tied_embeddings"),
            subjects=(*cause.subjects, "tied_embeddings"),
        )
        if HEAD in cause.subjects
        else cause
        for cause in plant.causes
    )
    return replace(plant, causes=causes, tolerated=plant.tolerated | {"tied_embeddings"})


def _combined(kind: str, seed: int, rng: Generator, subject: Subject) -> Case:
    """Several faults that each show by themselves, in tensors and keys of their own."""
    drawers = {name: draw for name, draw in all_kinds().items() if not name.startswith("tokenizer.")}
    chosen = [drawers[one(rng, list(drawers))] for _ in range(COMBINED[kind])]
    if rng.random() < 0.1:
        subject = with_prompt(rng, subject)
        chosen[0] = all_kinds()[one(rng, [name for name in all_kinds() if name.startswith("tokenizer.")])]
    plants = _apart(rng, subject, chosen)
    return Case(kind, seed, subject, plants, Shown.yes, min((p.stage for p in plants), key=place))


def _apart(rng: Generator, subject: Subject, drawers: list[Drawer]) -> tuple[Plant, ...]:
    plants: list[Plant] = []
    for draw in drawers:
        plant = _or_tied(draw(rng, subject), subject)
        overlaps = any(plant.touches & other.touches for other in plants)
        if overlaps or not plant.combines or expectation(plant, subject) is not Shown.yes:
            raise NotHere
        broken(plant, subject)
        plants.append(plant)
    return tuple(plants)


def _believed(seed: int, rng: Generator, subject: Subject) -> Case:
    """A fault of the believed side, of which its file bears witness by itself."""
    case = _single(one(rng, CONTRADICTING), seed, rng, subject)
    (plant,) = case.plants
    name = plant.causes[0].subjects[0]
    dims = subject.file.tensor(name).dims if name in subject.file.tensors else ()
    silent = {
        "layout.transposed": "as_expected" in plant.faults[0] or dims[:1] == dims[1:],  # no dims tell
        "value.zeroed": plant.faults[0].count(":") > 1
        or name.endswith(".bias"),  # rows, or a bias, may be zero
    }
    if silent.get(plant.kind, False) or case.shown is not Shown.yes:
        raise NotHere
    return replace(case, kind=BELIEVED, subject=replace(subject, misplaced=True))


def _recorded(seed: int, rng: Generator, subject: Subject) -> Case:
    """A fault that only the stages of the whole side, run in F32 beforehand, can tell."""
    container = subject.other_operand.partition(":")[0]
    subject = replace(subject, other_operand=f"{container}:F32", recorded=True)
    case = _single(one(rng, FROM_ACTIVATIONS), seed, rng, subject)
    if case.shown is not Shown.yes:
        raise NotHere
    return replace(case, kind=RECORDED)
