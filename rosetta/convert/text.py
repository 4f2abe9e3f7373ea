"""A conversion as text for a terminal: what was written, what the file has no place for, what it is worth."""

from __future__ import annotations

from rosetta.convert.convert import Conversion
from rosetta.errors import one_line


def render(conversion: Conversion, source: str, target: str, verdict: str | None) -> str:
    """The conversion as text.

    Args:
        conversion: what was done.
        source, target: as they were given.
        verdict: the verdict line of the comparison; None where there was none.

    Returns:
        Lines, each ended by a line break.
    """
    model, done = conversion.source, conversion.done
    kinds = [(done.copied, "copied as they are"), (done.moved, "the same bytes in another order"),
             (done.encoded, "encoded anew")]  # fmt: skip
    counted = ", ".join(f"{count} {what}" for count, what in kinds if count)
    lines = [
        f"[ROSETTA] {source} ({model.container.label}, {model.architecture.name}) -> {target}",
        f"  {sum(count for count, _ in kinds)} tensors: {counted}",
        *(
            [f"  {len(done.files)} files: {done.files[0]} … {done.files[-1].name}"]
            if len(done.files) > 1
            else []
        ),
        *(f"  Note: {note}" for note in done.notes),
        *(f"  NOT CARRIED: {lost}" for lost in done.lost),
        *(f"  LINT: {fault.line()}" for fault in conversion.faults),
    ]
    if conversion.comparison is None or verdict is None:
        lines.append("Not compared with the source.")
    else:
        operands = conversion.comparison.operands
        lines += ["", f"=== {operands['left']} against {operands['right']} ===", verdict]
        lines += [f"  {finding.message}" for finding in conversion.comparison.findings]
    return "".join(one_line(line) + "\n" for line in lines)
