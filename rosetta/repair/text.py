"""A repair as text for a terminal: what was changed, what was not, and what the written file is worth."""

from __future__ import annotations

from rosetta.errors import one_line
from rosetta.repair.repair import RepairOutcome

OTHER = {"left": "right", "right": "left"}


def render(repair: RepairOutcome, target: str, verdicts: tuple[str, str]) -> str:
    """The repair as text.

    Args:
        repair: what was done.
        target: the file that was to be written.
        verdicts: the verdict lines of the comparisons before and after.

    Returns:
        Lines, each ended by a line break.
    """
    operands = repair.before.operands
    lines = [f"[ROSETTA] {operands['left']} against {operands['right']}: {verdicts[0]}"]
    if repair.side is None or repair.written is None or repair.after is None:
        lines.append(f"Nothing to repair: no confirmed finding. {target} was not written.")
        lines += [f"  NOT REPAIRED: {finding.message}" for finding in repair.before.findings]
    else:
        written = repair.written
        lines += [
            "",
            f"=== Repair of {operands[repair.side]} ===",
            *(f"  {change}" for change in written.changes),
        ]
        lines.append(f"  {written.copied} tensors copied untouched")
        lines += [f"  Note: {note}" for note in written.notes]
        lines += [f"  NOT REPAIRED: {key}: the container has no place for it" for key in written.unsaid]
        left, right = repair.after.operands["left"], repair.after.operands["right"]
        lines += ["", f"=== {left} against {right} ===", verdicts[1]]
        lines += [f"  STILL THERE: {finding.message}" for finding in repair.left_over]
        if any(finding.side != repair.side for finding in repair.left_over):
            other = OTHER[repair.side]
            lines.append(
                f"Recommendation: repair the {other} file next: rosetta repair {left} {right} -o NAME"
            )
    return "".join(one_line(line) + "\n" for line in lines)
