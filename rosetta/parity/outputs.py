"""What a side said as the report has it: what is odd about it, and whether its memory tells it the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rosetta.dtypes import FLOATS
from rosetta.parity.options import ParityOptions
from rosetta.parity.results import Cause, Mark, Output
from rosetta.parity.said import Said
from rosetta.parity.speech import Speech, repeats
from rosetta.runtimes.observed.rounding import ACTIVATIONS

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-9, "float16": 2.0**-12}
PEAK = 10.0  # of such steps that add up, of their relative size; 4.5 was the most in a model of two layers
UNITS = 64.0  # that cached and whole passes may be apart, of half a unit in the last place


def output_of(said: Said, options: ParityOptions) -> Output:
    speech = said.speech
    ids = [] if speech is None else speech.ids
    return Output(
        prompt=said.prompt.id,
        side=said.side.operand,
        rendered=said.rendered,
        prompt_ids=said.ids,
        ids=ids,
        text=said.side.text_of(ids),
        ended="failed" if speech is None else speech.ended,
        marks=marks(said),
        cached_error=None if speech is None else speech.worst_error,
        cached_limit=None if speech is None else _cached_limit(said, speech, options),
        cached_first_mismatch=None if speech is None else _cached_mismatch(speech),
    )


def marks(said: Said) -> list[Mark]:
    """What is odd about what a side said."""
    speech = said.speech
    if speech is None:
        return []
    found: list[Mark] = []
    text = said.side.text_of(speech.ids)
    if not speech.ids or (text is not None and not text.strip()):
        found.append("empty")
    if repeats(speech.ids):
        found.append("repeats")
    if speech.ended == "stop":
        found.append("stops_early")
    if speech.ended == "nonfinite":
        found.append("nonfinite")
    return found


def _cached_limit(said: Said, speech: Speech, options: ParityOptions) -> float:
    """What the arithmetic may make of tokens one by one against all at once: another order of sums, rounded as
    coarsely as the runtime computes, and no finer than the threshold. What is multiplied by weights in blocks is
    rounded to 8 bits: the last bit of a sum may move a value by a whole step."""
    facts = said.facts
    precision = str(facts.options.get("dtype", "float32")) if facts is not None else "float32"
    relative = max(options.threshold, UNITS * UNIT[precision])
    if said.side.runtime == "llamacpp":
        # It reads GELU from a table of halves (ggml-cpu, vec.h).
        relative = max(relative, UNITS * UNIT["float16"])
        entries = said.side.container.tensors.values()
        if any(entry.dtype not in FLOATS and len(entry.dims) > 1 for entry in entries):
            relative = max(relative, PEAK * ACTIVATIONS)
    size = float(np.sqrt(np.mean(np.square(speech.logits[np.isfinite(speech.logits)], dtype=np.float64))))
    return relative * max(1.0, size)


def _cached_mismatch(speech: Speech) -> int | None:
    chosen = zip(speech.ids, speech.whole, strict=False)
    return next((i for i, (mine, whole) in enumerate(chosen) if mine != whole), None)


def cache_causes(outputs: Sequence[Output]) -> Iterator[Cause]:
    """Sides that say otherwise token by token than all at once: once a side, where it is worst."""
    wrong = [out for out in outputs if cached_wrong(out)]
    for side in dict.fromkeys(out.side for out in wrong):
        worst = max((out for out in wrong if out.side == side), key=_error)
        yield Cause(
            kind="runtime.cache",
            side=side,
            prompt=worst.prompt,
            stage="logits",
            message=f"logits computed token by token are {worst.cached_error:.2e} from those computed all at once, "
            f"where {worst.cached_limit:.2e} is explained",
            recommendation="compare how it keeps keys, values and state from token to token",
            status="confirmed",
        )


def _error(output: Output) -> float:
    """How wrong a side's cached decoding is; NaN is worst."""
    error = output.cached_error
    return math.inf if error is None or math.isnan(error) else error


def forgets(said: Said, options: ParityOptions, at: int) -> bool:
    """Whether a side's cached decoding is not its prefill by the time that it chose a token.

    Args:
        said: the side.
        options: see there.
        at: which token, counted from 0.
    """
    speech = said.speech
    if speech is None:
        return False
    return not float(np.max(speech.cached_error[: at + 1])) <= _cached_limit(said, speech, options)


def cached_wrong(output: Output) -> bool:
    """Whether a side's cached decoding is not its prefill."""
    error, limit = output.cached_error, output.cached_limit
    return error is not None and limit is not None and not error <= limit
