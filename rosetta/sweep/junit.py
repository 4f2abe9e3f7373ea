"""The matrix of a sweep as JUnit XML: a test case a job, named by its prompt in the class of its pair.

What happens within a comparison, layer by layer, is in the JUnit XML of its report (`rosetta report R.json --junit`).
"""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

from rosetta.errors import one_line
from rosetta.report.exit_code import FAILED, PASSED
from rosetta.sweep.matrix import Cell, Matrix


def junit_of(matrix: Matrix) -> str:
    """XML with a final line break; no job that keeps the sweep from exiting 0 is a test that passed."""
    outcomes = Counter(_outcome(cell) for cell in matrix.cells)
    counts = {
        "tests": str(len(matrix.cells)),
        "failures": str(outcomes["failure"]),
        "errors": str(outcomes["error"]),
    }
    top = ElementTree.Element("testsuites", {"name": "rosetta", **counts})
    suite = ElementTree.SubElement(top, "testsuite", {"name": "rosetta sweep", **counts})
    for cell in matrix.cells:
        _case(suite, cell)
    ElementTree.indent(top, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(top, encoding="unicode") + "\n"


def _outcome(cell: Cell) -> str:
    """A difference fails though nothing was asserted, as in the JUnit XML of one report; an error is what judged
    nothing."""
    if cell.verdict == "divergent" or cell.exit_code == FAILED:
        return "failure"
    return "passed" if cell.exit_code == PASSED and cell.verdict in ("match", "drift") else "error"


def _case(suite: ElementTree.Element, cell: Cell) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", name=one_line(cell.prompt), classname=one_line(cell.pair), time="0"
    )
    outcome, told = _outcome(cell), [f"{cell.left} against {cell.right}", f"job {cell.id}", cell.report]
    if outcome == "passed":
        ElementTree.SubElement(case, "system-out").text = "\n".join(one_line(line) for line in told)
        return
    where = f" at {cell.first}" if cell.first else ""
    kinds = f" ({', '.join(cell.kinds)})" if cell.kinds else ""
    message = one_line(f"{cell.verdict}{where}{kinds}: {cell.reason}")
    verdict = ElementTree.SubElement(case, outcome, message=message, type=cell.verdict)
    verdict.text = "\n".join(one_line(line) for line in [cell.reason, *told])
