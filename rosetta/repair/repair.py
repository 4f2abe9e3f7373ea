"""Repair a file by what a comparison proved: write a copy with the causes undone, and compare that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rosetta.compare.listener import Listener
from rosetta.compare.options import Options
from rosetta.compare.pairing import other_side
from rosetta.compare.results import Finding, Side
from rosetta.containers.adapters import AdaptedContainer
from rosetta.containers.spool import Progress
from rosetta.diagnose import Comparison, compare_operands
from rosetta.errors import UsageError
from rosetta.repair.apr_file import write_apr_copy
from rosetta.repair.copying import (
    LARGEST_SHARE,
    check_sizes,
    refusal,
    strange_share,
    strange_side,
    with_copies,
)
from rosetta.repair.fix import Fix, NothingWritten, Written
from rosetta.repair.gguf_file import write_gguf_copy
from rosetta.repair.huggingface_folder import write_huggingface_copy
from rosetta.repair.layout import repaired_layout
from rosetta.repair.padding import KEY, with_padding
from rosetta.repair.target import check_target
from rosetta.repair.vocabulary import repaired_vocabulary
from rosetta.sources import RemotePath, located

WRITERS: dict[str, Callable[[Path, Fix, Written, Progress], None]] = {
    "apr": write_apr_copy,
    "gguf": write_gguf_copy,
    "huggingface": write_huggingface_copy,
}


@dataclass(frozen=True)
class RepairOutcome:
    """What was found wrong, what was written, and what the written file is worth.

    Args:
        before: the comparison of the operands.
        side: the side that was repaired; None where nothing was there to repair.
        written: what the repaired file has otherwise; None where there was nothing to repair. Where the file has no
            place for any of it, `unsaid` says of what, and none was written.
        after: the comparison of the repaired file with the other operand; None where none was written.
    """

    before: Comparison
    side: Side | None = None
    written: Written | None = None
    after: Comparison | None = None

    @property
    def left_over(self) -> list[Finding]:
        """Confirmed findings that show on the prompt and are still there."""
        last = self.after or self.before
        return [f for f in last.findings if f.status == "confirmed" and not f.latent]


def repair_operands(
    left: str,
    right: str,
    target: Path,
    options: Options,
    listener: Listener | None = None,
    *,
    allow_copy: bool = False,
) -> RepairOutcome:
    """Compare two operands, write a copy of the wrong one with all confirmed repairs, and compare that.

    Args:
        left, right: files or folders.
        target: the file or folder to be written; there must be nothing of that name.
        options: how to compare, before and after.
        listener: hears how far the work has come.
        allow_copy: whether more than a tenth of the repaired file may come from the other one.

    Raises:
        UsageError: the target is taken, lies inside an input, or cannot be written; the repair would be a copy.
        RosettaError: an operand is missing, damaged or unsupported.
    """
    listener = listener or Listener()
    check_target(target, [located(operand) for operand in (left, right)])
    before = compare_operands(left, right, options, listener)
    side = accused_side(before)
    if side is None and not allow_copy:
        _refuse_a_copy(before)
    if side is None and allow_copy:
        side = strange_side(before)
    if side is None:
        return RepairOutcome(before)
    fix = planned_fix(before, side, allow_copy=allow_copy)
    if isinstance(fix.base.container, AdaptedContainer):
        remedy = "repair the other side, or give the merged folder"
        raise UsageError("is merged in memory, no file to repair", file=before.operands[side], remedy=remedy)
    if isinstance(fix.base.container.path, RemotePath):
        remedy = "repair the other side, or download it"
        raise UsageError(
            "is read from afar, and a copy is written beside none",
            file=fix.base.container.path,
            remedy=remedy,
        )
    writer = WRITERS.get(fix.base.container.kind)
    if writer is None:
        raise UsageError("is a recorded run, which cannot be repaired", file=before.operands[side])
    written = Written()
    try:
        writer(
            target, fix, written, lambda what, done, total: listener.working(f"writing {what}", done, total)
        )
    except NothingWritten:
        return RepairOutcome(before, side, written)
    operands = {**before.operands, side: str(target)}
    after = compare_operands(operands["left"], operands["right"], options, _Progress(listener))
    return RepairOutcome(before, side, written, after)


class _Progress(Listener):
    """Passes on how far the work is, and not once more what is loaded."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def working(self, what: str, done: int, total: int) -> None:
        """See `Listener.working`."""
        self.listener.working(what, done, total)


def accused_side(comparison: Comparison) -> Side | None:
    """The side that confirmed findings accuse: where they accuse both, the one that is not believed."""
    sides = {finding.side for finding in comparison.findings if finding.status == "confirmed"}
    subject = other_side(comparison.options.reference)
    return subject if subject in sides else next(iter(sides), None)


def _refuse_a_copy(comparison: Comparison) -> None:
    """Refuse two models of which one could only become the other."""
    side = strange_side(comparison)
    if side is None:
        return
    check_sizes(comparison, side)
    share = strange_share(comparison, side)
    if share > LARGEST_SHARE:
        source = comparison.models[other_side(side)].container.path
        raise refusal(share, comparison.models[side], source)


def planned_fix(comparison: Comparison, side: Side, *, allow_copy: bool = False) -> Fix:
    """What the repaired file of a side is to hold.

    Args:
        comparison: of the operands.
        side: the one to be repaired.
        allow_copy: whether weights of another model are copied too.

    Raises:
        UnsupportedError: a tensor is missing, and how the file would call it cannot be told.
        UsageError: weights of a model of another size were to be copied.
    """
    base = comparison.models[side]
    repaired = with_copies(comparison, side) if allow_copy else comparison.repaired[side]
    other = comparison.repaired[other_side(side)]
    findings = [f for f in comparison.findings if f.status == "confirmed" and f.side == side]
    accused = {finding.key for finding in findings}  # padding that was left out is no repair
    settings = {key: value for key, value in repaired.overrides.items() if key != KEY or key in accused}
    return Fix(
        base=base,
        repaired=repaired,
        other=other,
        settings=settings,
        layout=repaired_layout(base, with_padding(base, repaired), settings),
        findings=findings,
        vocabulary=repaired_vocabulary(findings, base, other),
        allow_copy=allow_copy,
    )
