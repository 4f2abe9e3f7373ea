"""A third side that accuses nobody: at each stage at fault, with which of both it agrees.

It is held to each side by a comparison of its own, on its own values and theirs, so that only what is wrong at the
stage itself counts, beside what the dtypes of the two explain. Two runs that were both observed cannot be given each
other's inputs: they are held to each other as they are, within the threshold.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from rosetta.architectures import architecture_of
from rosetta.compare.listener import Listener
from rosetta.compare.metrics import count_nonfinite, rms
from rosetta.compare.options import TRACE, Options, live
from rosetta.compare.results import Agreement, Side, StageDiff, Witness, Witnessed
from rosetta.diagnose.comparison import Comparison, compare_operands
from rosetta.runtimes.live import options_of
from rosetta.runtimes.trace import Recording, open_recording

SIDES: tuple[Side, Side] = ("left", "right")


def witnessed(comparison: Comparison, operand: str, listener: Listener) -> Comparison:
    """The comparison with the witness's word on each stage at fault.

    Args:
        comparison: of the two sides.
        operand: the witness, given as a side is.
        listener: hears how far it is.

    Raises:
        RosettaError: the witness is missing, damaged or unsupported, or was recorded with other tokens.
    """
    faulty = [stage.name for stage in comparison.stages if stage.status == "faulty"]
    if not faulty:
        return replace(comparison, witness=Witness(operand=operand, stages=[]))
    listener.working(f"asking {operand}", 0, 0)
    held = {side: _held(comparison, side, operand) for side in SIDES}
    said = _observed(held, operand)
    found = {
        side: {name: _ratio(comparison, side, held[side], said, name) for name in faulty} for side in SIDES
    }
    words = [
        Witnessed(
            stage=name,
            agrees=_agreement(found["left"][name], found["right"][name]),
            left=found["left"][name],
            right=found["right"][name],
        )
        for name in faulty
    ]
    agrees = {word.stage: word.agrees for word in words}
    stages = [stage.model_copy(update={"witness": agrees.get(stage.name)}) for stage in comparison.stages]
    return replace(comparison, stages=stages, witness=Witness(operand=operand, stages=words))


def _held(comparison: Comparison, side: Side, operand: str) -> Comparison | None:
    """A side held to the witness; None where both were observed, and one of them not now."""
    own = comparison.operands[side]
    if _is_observed(own) and _is_observed(operand) and not (live(own) and live(operand)):
        return None
    return compare_operands(own, operand, _options(comparison, side, operand))


def _options(comparison: Comparison, side: Side, operand: str) -> Options:
    """What a side is held to the witness with: the same tokens, by whoever's prompt they came about, and the options
    that concern the two."""
    options = comparison.options
    runtimes = [run[0] for text in (comparison.operands[side], operand) if (run := live(text)) is not None]
    concerned = {
        key: value for name in runtimes for key, value in options_of(name, options.runtime_options).items()
    }
    unknown = architecture_of(comparison.models[side].container) is None
    ids = comparison.tokens.left if options.reference == "left" else comparison.tokens.right
    return replace(
        options,
        tokens=tuple(ids) if comparison.tokens.match else options.tokens,
        reference="right",
        diagnose=False,
        stop_at_first=False,
        witness=None,
        runtime_options=concerned,
        run_as=options.run_as if unknown else None,
    )


def _is_observed(operand: str) -> bool:
    return operand.startswith(TRACE) or live(operand) is not None


def _observed(held: dict[Side, Comparison | None], operand: str) -> Recording | None:
    """The witness as a recording, where it is one."""
    for found in held.values():
        container = None if found is None else found.models["right"].container
        if isinstance(container, Recording):
            return container
    return open_recording(Path(operand.removeprefix(TRACE))) if operand.startswith(TRACE) else None


def _ratio(
    comparison: Comparison, side: Side, held: Comparison | None, said: Recording | None, name: str
) -> float | None:
    """By how many times what is allowed the witness differs from a side at a stage; None where one shows none."""
    if held is None:
        container = comparison.models[side].container
        if not isinstance(container, Recording) or said is None:
            return None
        return _apart(said.stage(name), container.stage(name), comparison.options.threshold)
    stage = next((stage for stage in held.stages if stage.name == name), None)
    if stage is None or stage.status == "skipped":
        return None
    return _faulty_by(stage)


def _faulty_by(stage: StageDiff) -> float:
    """What makes a stage faulty, as a ratio above 1."""
    if stage.local is None:
        return float("inf") if stage.status == "faulty" else 0.0
    ratio = stage.local.worst_ratio
    if stage.status != "faulty":
        return min(ratio, 1.0)
    blocks = [times for _, times in stage.detail.differing]
    return max([ratio, *blocks]) if max([ratio, *blocks]) > 1 else float("inf")


def _apart(a: Tensor | None, b: Tensor | None, threshold: float) -> float | None:
    """The largest difference of two recorded stages, of what the threshold allows."""
    if a is None or b is None or a.numel() != b.numel():
        return None
    if count_nonfinite(a) or count_nonfinite(b):
        return float("inf")
    gap = float((a.flatten() - b.flatten()).abs().max())
    return gap / (threshold * max(1.0, rms(a))) if gap else 0.0


def _agreement(left: float | None, right: float | None) -> Agreement | None:
    if left is None or right is None:
        return None
    agrees = left <= 1, right <= 1
    words: dict[tuple[bool, bool], Agreement] = {
        (True, True): "both", (True, False): "left", (False, True): "right", (False, False): "neither",
    }  # fmt: skip
    return words[agrees]
