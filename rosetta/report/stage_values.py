"""The values of one stage of a report's comparison, computed once more: a report keeps differences alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rosetta.compare.listener import Listener
from rosetta.compare.options import TRACE, Options, live
from rosetta.errors import UsageError
from rosetta.report.fingerprint import header_sha256

if TYPE_CHECKING:
    from torch import Tensor

    from rosetta.compare.in_parts import Value
    from rosetta.report.report import Report, SideFacts


def stage_values(report: Report, stage: str) -> tuple[Tensor | None, Tensor | None]:
    """The left and the right value of a stage, each from its side's own inputs; None on a side that lacks it.

    Raises:
        UsageError: the report is of an error or has no such stage, or an operand is another file by now.
        RosettaError: an operand is gone or damaged.
    """
    from rosetta.diagnose import compare_operands  # imports torch

    known = [each.name for each in report.stages if each.op != "tokens"]
    if report.options is None or stage not in known:
        raise UsageError(f"the report has no stage {stage!r}", remedy="see report.stages")
    for side in (report.left, report.right):
        _refuse_another(side)
    asked: Any = report.options.model_dump(
        include={"left_device", "right_device", "dtype", "runtime_options", "run_as"}
    )
    run = report.tokens.left if report.reference == "left" else report.tokens.right
    options = Options(tokens=tuple(run), reference=report.reference, diagnose=False, **asked)
    try:
        compare_operands(report.left.operand, report.right.operand, options, _Awaiting(stage))
    except _Computed as found:
        return found.values
    raise UsageError(f"stage {stage!r} is not computed", remedy="compare the operands anew")


def _refuse_another(side: SideFacts) -> None:
    from rosetta.containers import open_operand  # imports numpy

    run = live(side.operand)
    operand = side.operand if run is None else run[1]
    if side.header_sha256 is None or operand.startswith(TRACE):
        return
    container = open_operand(operand)
    try:
        if header_sha256(container) != side.header_sha256:
            raise UsageError(
                "is no longer the file that the report is of",
                file=container.path,
                remedy="compare the operands anew",
            )
    finally:
        container.close()


class _Computed(Exception):
    def __init__(self, values: tuple[Tensor | None, Tensor | None]) -> None:
        self.values = values


class _Awaiting(Listener):
    """Ends a comparison as soon as a stage is there."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def computed(self, stage: str, left: Value | None, right: Value | None) -> None:
        if stage == self.stage:
            raise _Computed((_whole(left), _whole(right)))


def _whole(value: Value | None) -> Tensor | None:
    from rosetta.compare.in_parts import InParts

    return value.of(range(value.shape[0])) if isinstance(value, InParts) else value
