"""What came of contracts, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rosetta.contracts.run import WORST, ContractsReport
from rosetta.errors import one_line

MARKS = {"pass": "✓", "fail": "✗", "unknown": "?", "malformed": "!"}


def render(report: ContractsReport) -> str:
    """A line for each falsifier under its contract, then one that counts them."""
    return "".join(f"{one_line(line)}\n" for line in _lines(report))


def _lines(report: ContractsReport) -> Iterator[str]:
    for contract in report.contracts:
        yield f"{MARKS[contract.verdict]} {contract.id}: {contract.verdict}"
        yield from (f"    {problem}" for problem in contract.problems)
        for test in contract.falsifiers:
            yield f"    {MARKS[test.verdict]} {test.id}" + (f": {test.reason}" if test.reason else "")
    if not report.contracts:
        yield "INCONCLUSIVE: there is no contract, and no contract is no pass"
        return
    tests = Counter(test.verdict for contract in report.contracts for test in contract.falsifiers)
    said = ", ".join(f"{tests[verdict]} {verdict}" for verdict in reversed(WORST) if tests[verdict])
    count = len(report.contracts)
    yield f"{report.verdict.upper()}: {count} contract{'s' * (count != 1)}, falsifiers: {said or 'none run'}"
