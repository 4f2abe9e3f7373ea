"""The two observed sides of a comparison that has no model of ours in it.

Each is a runtime that is run here, or one of them a recording, which fixes the tokens and is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from rosetta.compare.metrics import rms
from rosetta.compare.options import AUTO, TRACE, Options, live
from rosetta.compare.pairing import Pairing
from rosetta.compare.results import Side
from rosetta.errors import RosettaError, UsageError
from rosetta.model import Model
from rosetta.runtimes.dumps import open_dump, recorded_dump
from rosetta.runtimes.gauges import settled
from rosetta.runtimes.live import (
    Request,
    known_model,
    own_ids,
    record,
    refuse_unknown,
    requested,
    what_was_run,
)
from rosetta.runtimes.observed.capture import Facts
from rosetta.runtimes.observed.rounding import relative_rounding
from rosetta.runtimes.recorded_chunks import Reading
from rosetta.runtimes.rotation import Rotation, as_gguf_has_them
from rosetta.runtimes.trace import Recording, open_recording, recorded_model, without_gauge
from rosetta.sources import located_here

SAME = 1e-2  # of two orders of the same queries, the right one is far below it and the wrong one far above
NEARER = 0.8  # times as far apart: orders of queries that an earlier fault has made strangers differ by chance alone


@dataclass(frozen=True)
class Observed:
    """A side's run.

    Args:
        recording: what was captured.
        facts: what is known of the run.
        ids: what the side itself makes of the prompt.
        prompt: the text; None where ids were given.
        request: what was asked of a runtime that was run here; None of a recording.
        roundings: relative, of its file's weights by their dtypes, as far as the file is known.
    """

    recording: Recording
    facts: Facts
    ids: Sequence[int]
    prompt: str | None
    request: Request | None
    roundings: Mapping[str, float]


def observed(operands: dict[Side, str], options: Options) -> Pairing[Observed]:
    """Both sides of a comparison, run on the reference's tokens; a recording is the reference.

    Raises:
        RosettaError: a runtime is not installed or does not run its model, a recording is damaged, or the options ask
            for the impossible.
    """
    runs = {side: run for side, operand in operands.items() if (run := live(operand)) is not None}
    refuse_unknown([runtime for runtime, _ in runs.values()], options.runtime_options)
    recorded: list[Side] = [side for side in operands if side not in runs]
    if recorded:
        ((runtime, path),) = runs.values()
        place = located_here(path, runtime)
        known, before = known_model(place), Path(operands[recorded[0]].removeprefix(TRACE))
        recording = _opened(before, known, options)
        text = recording.facts.get("prompt")
        prompt = text if isinstance(text, str) else None
        request = requested(runtime, place, "", recording.tokens, options.runtime_options)
        fresh = _run(replace(request, prompt=prompt), _own(place, prompt, recording.tokens))
        there = Observed(
            _alike(recording, fresh.recording),
            _facts(recording),
            recording.tokens,
            prompt,
            None,
            _stated_roundings(recording),
        )
        return Pairing(there, fresh, recorded[0])
    requests = Pairing.of(
        {
            side: requested(
                runtime, located_here(path, runtime), options.prompt, options.tokens, options.runtime_options
            )
            for side, (runtime, path) in runs.items()
        },
        options.reference,
    )
    ids = list(requests.reference.ids)
    return requests.each(lambda request: _run(replace(request, ids=ids), request.ids))


def _run(request: Request, own: Sequence[int]) -> Observed:
    recording, facts = record(request)
    return Observed(recording, facts, own, request.prompt, request, relative_rounding(request.path))


def _opened(place: Path, known: Model | None, options: Options) -> Recording:
    """A recording or a dump, in the order of rows that a known model has in GGUF.

    Raises:
        RosettaError: it is damaged, was made of other tokens than were given, or is a dump and no model is known.
    """
    dump = open_dump(place)
    if dump is None:
        recording = open_recording(place)
    elif known is None or options.prompt == AUTO:
        raise UsageError(
            "is read beside a model that rosetta knows, with a prompt of its own",
            file=place,
            remedy="compare it with a model file, and give the prompt",
        )
    else:
        recording = recorded_dump(dump, known, options.prompt, options.tokens)
    if options.tokens is not None and list(options.tokens) != recording.tokens:
        raise UsageError(
            "was recorded with other tokens",
            file=place,
            remedy=f"leave out --tokens, or give {recording.tokens}",
        )
    if known is None or not known.architecture.runs:
        return recording
    return settled(recording, recorded_model(recording, known), known)


def _own(place: Path, prompt: str | None, recorded: Sequence[int]) -> Sequence[int]:
    """What a file's own tokenizer makes of the recorded prompt; the recorded ids where there is none of either."""
    try:
        return recorded if prompt is None else own_ids(place, prompt)
    except RosettaError:
        return recorded


def _facts(recording: Recording) -> Facts:
    order = recording.facts.get("rope_order")
    return Facts(
        str(recording.facts.get("runtime", "its runtime")), rope=order if isinstance(order, str) else None
    )


def _stated_roundings(recording: Recording) -> dict[str, float]:
    """Of the file that it was made of, where it says which and that is still there."""
    told = what_was_run(recording)
    path = None if told is None else told[1]
    try:
        return {} if path is None or not path.exists() else relative_rounding(path)
    except RosettaError:
        return {}


def _alike(recording: Recording, other: Recording) -> Recording:
    """A recording with its stages in the form of the other's: heads side by side or not, the last token alone, logits
    but for a constant of each token."""
    made = {}
    for name in recording.stages.keys() & other.stages.keys():
        here, there = recording.stages[name].dims, other.stages[name].dims
        flat = {len(here), len(there)} == {2, 3} and prod(here) == prod(there) and here[0] == there[0]
        last = here[:1] == (1,) and there[0] > 1 and here[1:] == there[1:]
        if flat or last or name == "logits":
            made[name] = Reading((name,), lambda x, name=name: _in_form(x, other.stage(name))), there
    return recording.with_readings(made, "stages are read in the other side's form") if made else recording


def _in_form(x: Tensor, other: Tensor | None) -> Tensor:
    assert other is not None  # it was there when its dims were read
    if x.ndim != other.ndim:
        return x.reshape(other.shape)
    if len(x) == 1 < len(other):
        x = torch.cat([other[:-1], x])
    return without_gauge(x, other) if x.ndim == 2 else x


def rotations_of(sides: Pairing[Observed]) -> Pairing[Rotation]:
    """How q and k of both come into one order: adjacent pairs, where one side has them so.

    A runtime that rotates says its order. Where nothing is rotated rows may lie in either order all the same (a
    converter that moves them for every model), and a recording need not say its own; then the first queries tell.
    """
    facts, runs = sides.each(lambda side: side.facts), sides.each(lambda side: side.recording)
    dimensions = facts.reference.rotary_dimensions or facts.subject.rotary_dimensions
    turned, plain = Rotation(True, dimensions), Rotation()
    if sides.reference.request is None:
        assert sides.subject.request is not None
        own = as_gguf_has_them(known_model(sides.subject.request.path))
        choices = (runs.with_both(plain, own if own.of(facts.subject) else plain), runs.with_both(plain, plain),
                   runs.with_both(plain, turned), runs.with_both(turned, plain))  # fmt: skip
        return next((choice for choice in choices if _fits(runs, choice)), choices[0])
    if (facts.reference.rope, facts.subject.rope) == ("interleaved", "split_half"):
        return runs.with_both(plain, turned)
    if (facts.reference.rope, facts.subject.rope) == ("split_half", "interleaved"):
        return runs.with_both(turned, plain)
    if (facts.reference.rope, facts.subject.rope) == (None, None):
        whole, as_they_are = Rotation(True), _apart(runs, runs.with_both(plain, plain))
        turns = [runs.with_both(plain, whole), runs.with_both(whole, plain)]
        nearest = min(turns, key=lambda choice: _apart(runs, choice))
        if _apart(runs, nearest) < NEARER * as_they_are:
            return nearest
    return runs.with_both(plain, plain)


def _fits(runs: Pairing[Recording], rotations: Pairing[Rotation]) -> bool:
    """Whether the first queries that both have agree in an order."""
    return _apart(runs, rotations) < SAME


def _apart(runs: Pairing[Recording], rotations: Pairing[Rotation]) -> float:
    """How far the first queries that both have lie apart in an order, over their size; infinite where they cannot be
    compared, and 0 where there are none."""
    stages = (name for name in runs.reference.stages if name.endswith(".q") and name in runs.subject.stages)
    stage = next(stages, None)
    if stage is None:
        return 0.0
    a, b = (
        None if value is None else rotation.forth(stage, value)
        for value, rotation in (
            (runs.reference.stage(stage), rotations.reference),
            (runs.subject.stage(stage), rotations.subject),
        )
    )
    if a is None or b is None or a.shape != b.shape:
        return math.inf
    size, gap = rms(a), rms(a - b)
    return gap / size if size else (math.inf if gap else 0.0)
