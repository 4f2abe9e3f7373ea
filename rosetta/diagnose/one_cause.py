"""Many findings of one kind in one sentence: what a file has in all its weights has one cause, and is told first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rosetta.compare.results import Finding, Side
from rosetta.diagnose.kinds import all_kinds

UNPROVABLE = ("value.other_weights",)
MANY = 4  # weights: of fewer their own diagnoses are as short


def told_together(findings: Sequence[Finding]) -> Iterator[str]:
    """A sentence for each kind that many weights of one file are found to have.

    >>> one = dict(kind="value.requantised", side="left", actual="NF4", status="confirmed")
    >>> found = [Finding(tensor=f"blk.{n}.attn_q.weight", message="", recommendation="", **one) for n in range(4)]
    >>> next(told_together(found))[:67]
    '4 weights of the left file lie on the levels of a quantised format,'
    """
    of_weights: dict[tuple[str, Side], dict[str, Finding]] = {}
    for finding in findings:
        if finding.tensor is not None and (finding.status == "confirmed" or finding.kind in UNPROVABLE):
            of_weights.setdefault((finding.kind, finding.side), {})[finding.tensor] = finding
    for (kind, side), found in of_weights.items():
        known = all_kinds().get(kind)
        if len(found) < MANY or known is None or known.together is None:
            continue
        commonest = Counter(str(finding.actual) for finding in found.values()).most_common(1)[0][0]
        yield f"{len(found)} weights of the {side} file {known.together.format(actual=commonest)}"
