"""What the reports of a sweep say together: pairs × prompts, and one exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rosetta.report.exit_code import FAILED, INCONCLUSIVE, PASSED, USAGE
from rosetta.report.table import table
from rosetta.sweep.job import Job
from rosetta.sweep.sweep import stored

SCHEMA_VERSION = "1.0"
MISSING = "missing"
# What pydantic is to know of these classes when it makes their JSON Schema (ConfigDict).
WRITTEN = {"use_attribute_docstrings": True, "json_schema_serialization_defaults_required": True}
MARKS = {"match": "✓", "drift": "~", "divergent": "✗", "inconclusive": "?", "error": "!", MISSING: "·"}
WORST_FIRST = (FAILED, USAGE, INCONCLUSIVE, PASSED)
"""What one job fails with is what the sweep fails with: a difference before an error, an error before a silence."""


@dataclass(frozen=True)
class Cell:
    """One job of the matrix."""

    __pydantic_config__ = WRITTEN
    id: str
    """Of the job: the name of its report."""
    pair: str
    """The row."""
    left: str
    """The left operand."""
    right: str
    """The right operand."""
    prompt: str
    """The column."""
    report: str
    """Where its report lies."""
    verdict: str
    """Of its report; `missing` where there is none."""
    exit_code: int
    """Of its report."""
    kinds: list[str] = field(default_factory=list)
    """Of its findings that are no latent ones."""
    first: str | None = None
    """The stage at which it first diverges."""
    reason: str = ""
    """The verdict in a sentence."""


@dataclass(frozen=True)
class MatrixDocument:
    """What `rosetta sweep --json` writes."""

    __pydantic_config__ = WRITTEN
    schema_version: str
    """Fields are only ever added within a major version."""
    exit_code: int
    """Of the sweep."""
    counts: dict[str, int]
    """Jobs by their verdict."""
    cells: list[Cell]
    """In the order of the jobs."""


@dataclass(frozen=True)
class Matrix:
    """All cells, in the order of the jobs."""

    cells: list[Cell]

    @property
    def exit_code(self) -> int:
        """See `WORST_FIRST`; 3 where there is no cell: nothing compared is no pass."""
        codes = {cell.exit_code for cell in self.cells}
        return next((code for code in WORST_FIRST if code in codes), INCONCLUSIVE)

    def to_json(self) -> str:
        """Strict JSON, with a final line break."""
        from rosetta.strict_json import json_text  # imports numpy: not at the program's start

        counts = Counter(cell.verdict for cell in self.cells)
        by_verdict = {verdict: counts[verdict] for verdict in MARKS}
        return json_text(asdict(MatrixDocument(SCHEMA_VERSION, self.exit_code, by_verdict, self.cells)))

    def to_text(self, width: int | None = None) -> str:
        """A row a pair, a column a prompt; then each that did not pass, in a sentence.

        Args:
            width: columns of the screen; None: there is no end to a line.
        """
        prompts = list(dict.fromkeys(cell.prompt for cell in self.cells))
        rows: dict[str, dict[str, Cell]] = {}
        for cell in self.cells:
            rows.setdefault(cell.pair, {})[cell.prompt] = cell
        body = [[pair, *(_shown(by_prompt.get(p)) for p in prompts)] for pair, by_prompt in rows.items()]
        lines = ["=== Sweep ===", *table(["pair", *prompts], body, width)]
        for cell in self.cells:
            if cell.exit_code != PASSED or cell.verdict in {"divergent", "error", MISSING}:
                lines.append(f"{MARKS.get(cell.verdict, '?')} {cell.pair}, {cell.prompt}: {cell.reason}")
                lines.append(f"  {cell.report}")
        counts = Counter(cell.verdict for cell in self.cells)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MARKS if counts[verdict])
        noun = "comparison" if len(self.cells) == 1 else "comparisons"
        return "\n".join([*lines, f"{len(self.cells)} {noun}: {said}"]) + "\n"


def matrix_of(jobs: Sequence[Job], folder: Path) -> Matrix:
    """The matrix of the reports that lie in a folder."""
    return Matrix([_cell(job, folder) for job in jobs])


def _cell(job: Job, folder: Path) -> Cell:
    path = job.report_in(folder)
    cell = Cell(
        job.id, job.row, job.left, job.right, job.prompt.name, str(path), MISSING, INCONCLUSIVE,
        reason="there is no report yet",
    )  # fmt: skip
    report = stored(job, folder)
    if report is None:
        return cell
    findings = [f for f in _list(report.get("findings")) if isinstance(f, dict) and not f.get("latent")]
    code = _dict(report.get("assertion")).get("exit_code")
    return replace(
        cell,
        verdict=report["verdict"],
        exit_code=USAGE if report["verdict"] == "error" else code if code in WORST_FIRST else PASSED,
        kinds=list(dict.fromkeys(str(finding.get("kind")) for finding in findings)),
        first=_dict(report.get("first_divergence")).get("name"),
        reason=str(report.get("reason", "")),
    )


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    kinds = f" {cell.kinds[0]}" if cell.kinds else ""
    more = f" +{len(cell.kinds) - 1}" if len(cell.kinds) > 1 else ""
    return f"{MARKS.get(cell.verdict, '?')} {cell.verdict}{kinds}{more}"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
