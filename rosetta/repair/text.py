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
    if repair.side is None or repair.written is None:
        lines.append(f"Nothing to repair: no confirmed finding. {target} was not written.")
        lines += [
            f"  NOT REPAIRED: {f.message}: suspected, and proven by no rerun; by hand: {f.recommendation}"
            for f in repair.before.findings
        ]
    elif repair.after is None:
        lines.append(f"Nothing was written: {operands[repair.side]} has no place for the repair.")
        lines += [f"  NOT REPAIRED: {key}: {_by_hand(repair, key)}" for key in repair.written.unsaid]
    else:
        written = repair.written
        lines += [
            "",
            f"=== Repair of {operands[repair.side]} ===",
            *(f"  {change}" for change in written.changes),
        ]
        lines.append(f"  {written.copied} tensors copied untouched")
        lines += [f"  Note: {note}" for note in written.notes]
        lines += [f"  NOT REPAIRED: {key}: {_by_hand(repair, key)}" for key in written.unsaid]
        left, right = repair.after.operands["left"], repair.after.operands["right"]
        lines += ["", f"=== {left} against {right} ===", verdicts[1]]
        lines += [f"  STILL THERE: {finding.message}" for finding in repair.left_over]
        if any(finding.side != repair.side for finding in repair.left_over):
            other = OTHER[repair.side]
            lines.append(
                f"Recommendation: repair the {other} file next: rosetta repair {left} {right} -o NAME"
            )
    return "".join(one_line(line) + "\n" for line in lines)


def _by_hand(repair: RepairOutcome, key: str) -> str:
    """What is left to do about a key that was not written: what its finding advises."""
    container = repair.before.models[repair.side].container if repair.side else None
    where = (
        f"a {container.label} {'folder' if container.path.is_dir() else 'file'}" if container else "the file"
    )
    advice = next((f.recommendation for f in repair.before.findings if f.key == key), None)
    return f"rosetta does not write it into {where}; by hand: {advice or 'convert the model again'}"
