"""Reports kept in SQLite: a row a run, a stage, a finding; when a pair began to diverge, and where.

The tables are documented in docs/dashboards.md and are only ever added to: `MIGRATIONS` are applied in order, and the
file says how many it has had (`PRAGMA user_version`). Several processes may add at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rosetta.errors import DamagedFileError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from rosetta.report.report import Report

WAIT = 30.0  # seconds for another writer
MIGRATIONS = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, started TEXT NOT NULL, started_unix REAL NOT NULL,
        left_operand TEXT NOT NULL, right_operand TEXT NOT NULL, prompt TEXT NOT NULL,
        verdict TEXT NOT NULL, reason TEXT NOT NULL, first_stage TEXT, passed INTEGER, exit_code INTEGER NOT NULL,
        reference TEXT NOT NULL, threshold REAL NOT NULL,
        left_header_sha256 TEXT, right_header_sha256 TEXT, left_sha256 TEXT, right_sha256 TEXT,
        version TEXT NOT NULL, host TEXT, git_commit TEXT, git_branch TEXT, git_dirty INTEGER,
        kl REAL, next_token_agrees INTEGER, total_seconds REAL NOT NULL, peak_bytes INTEGER NOT NULL
    );
    CREATE INDEX runs_by_pair ON runs (left_operand, right_operand, prompt, started_unix);
    CREATE TABLE stages (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        name TEXT NOT NULL, layer INTEGER, op TEXT NOT NULL, status TEXT NOT NULL,
        max_diff REAL, rel REAL, rel_l2 REAL, local_max_diff REAL, predicted_max_diff REAL, noise_ratio REAL,
        PRIMARY KEY (run, position)
    ) WITHOUT ROWID;
    CREATE TABLE findings (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        kind TEXT NOT NULL, side TEXT NOT NULL, layer INTEGER, tensor TEXT, key TEXT,
        status TEXT NOT NULL, latent INTEGER NOT NULL, stage TEXT, message TEXT NOT NULL,
        PRIMARY KEY (run, position)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE tensors (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, side TEXT NOT NULL, name TEXT NOT NULL,
        sha256 TEXT NOT NULL, PRIMARY KEY (run, side, name)
    ) WITHOUT ROWID;
    """,
)
"""Each brings a file of the version before to the next."""


@dataclass(frozen=True)
class Run:
    """One kept run, in short."""

    id: str
    started: str
    verdict: str
    first_stage: str | None
    commit: str | None
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """All runs of one pair on one prompt, oldest first.

    Args:
        left, right: the operands.
        prompt: what was run.
        runs: at least one.
        changed: (side, tensor) whose bytes are others since the verdict is what it is now; none where one of the two
            runs about that has no hashes of tensors.
    """

    left: str
    right: str
    prompt: str
    runs: tuple[Run, ...]
    changed: tuple[tuple[str, str], ...] = ()

    @property
    def now(self) -> Run:
        """The latest run."""
        return self.runs[-1]

    @property
    def began(self) -> Run:
        """The run since which the verdict is what it is now."""
        since = self.now
        for run in reversed(self.runs):
            if run.verdict != self.now.verdict:
                break
            since = run
        return since

    @property
    def before(self) -> Run | None:
        """The last run of another verdict; None where there was none."""
        return next((run for run in reversed(self.runs) if run.verdict != self.now.verdict), None)


@contextlib.contextmanager
def opened(path: str | Path, *, make: bool = False) -> Iterator[sqlite3.Connection]:
    """The history in a file, of this version.

    Args:
        path: of the file.
        make: whether to make it where there is none.

    Raises:
        RosettaError: there is none, it is no history, or a later version wrote it.
    """
    path = Path(path)
    if not path.exists() and not make:
        raise UsageError("no such file", file=path, remedy="rosetta history add writes one")
    try:
        base = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise UsageError(f"cannot be opened: {error}", file=path, remedy="check the path") from error
    with contextlib.closing(base):
        try:
            base.execute("PRAGMA foreign_keys = ON")
            _migrate(base, path)
            yield base
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
                raise UsageError(
                    "may not be written", file=path, remedy="let its owner make it writable"
                ) from error
            if "locked" in str(error):
                raise UsageError(
                    f"another process has been writing it for {WAIT:g} s", file=path, remedy="try again"
                ) from error
            raise DamagedFileError(f"is no history that can be read: {error}", file=path) from error


def add(base: sqlite3.Connection, reports: Iterable[Report]) -> int:
    """Keep reports, all or none; a run that is there already is left.

    Returns:
        How many are new.
    """
    new = 0
    with _writing(base):
        for report in reports:
            new += _add(base, report)
    return new


def stories(base: sqlite3.Connection, like: str | None = None) -> list[Story]:
    """What happened to each pair, those first that diverge, then by name.

    Args:
        base: the history.
        like: a text that one of the operands holds; None for all.
    """
    rows = base.execute(
        """SELECT left_operand, right_operand, prompt, id, started, verdict, first_stage, git_commit,
                  (SELECT group_concat(kind, ' ') FROM (SELECT DISTINCT kind FROM findings WHERE run = runs.id))
           FROM runs WHERE ? IS NULL OR instr(left_operand, ?) OR instr(right_operand, ?)
           ORDER BY left_operand, right_operand, prompt, started_unix, id""",
        (like, like, like),
    )
    found = []
    for (left, right, prompt), some in groupby(rows, lambda row: row[:3]):
        runs = [
            Run(id_, started, verdict, stage, commit, tuple((kinds or "").split()))
            for *_, id_, started, verdict, stage, commit, kinds in some
        ]
        story = Story(left, right, prompt, tuple(runs))
        found.append(replace(story, changed=tuple(_changed(base, story))))
    return sorted(found, key=lambda story: story.now.verdict != "divergent")


def _changed(base: sqlite3.Connection, story: Story) -> Iterator[tuple[str, str]]:
    """See `Story.changed`: in the order of side and name; what is new or gone among them, where all was hashed."""
    if story.before is None:
        return
    before, since = (
        {
            (side, name): digest
            for side, name, digest in base.execute(
                "SELECT side, name, sha256 FROM tensors WHERE run = ? ORDER BY side, name", (run.id,)
            )
        }
        for run in (story.before, story.began)
    )
    whole = _hashed_whole(base, story.before) & _hashed_whole(base, story.began)
    both = before.keys() & since.keys()
    for place in sorted({*before, *since}):
        if (place in both or place[0] in whole) and before.get(place) != since.get(place):
            yield place


def _hashed_whole(base: sqlite3.Connection, run: Run) -> set[str]:
    """The sides of a run that were hashed to their ends: of others it has the tensors that it read."""
    sums = base.execute("SELECT left_sha256, right_sha256 FROM runs WHERE id = ?", (run.id,)).fetchone()
    return {side for side, whole in zip(("left", "right"), sums, strict=True) if whole is not None}


def _migrate(base: sqlite3.Connection, path: Path) -> None:
    if _version(base) == len(MIGRATIONS):
        return
    _write_ahead(base)
    with _writing(base):
        version = _version(base)  # another process may have been quicker
        if version > len(MIGRATIONS):
            raise UnsupportedError(
                f"is a history of version {version}",
                file=path,
                remedy=f"this program reads up to {len(MIGRATIONS)}",
            )
        if version == 0 and base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise UsageError(
                "is a database of something else", file=path, remedy="name another file with --db"
            )
        for step in MIGRATIONS[version:]:
            for statement in filter(str.strip, step.split(";")):
                base.execute(statement)
        base.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(base: sqlite3.Connection) -> int:
    return int(base.execute("PRAGMA user_version").fetchone()[0])


def _write_ahead(base: sqlite3.Connection) -> None:
    """Readers need not wait for writers then. SQLite does not wait for others with this one, so we do."""
    until = time.monotonic() + WAIT
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def _writing(base: sqlite3.Connection) -> Iterator[None]:
    """One transaction that writes from its beginning: two that read first and then write could only fail."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")


def _add(base: sqlite3.Connection, report: Report) -> bool:
    facts = _facts(report)
    names = ", ".join(facts)
    marks = ", ".join("?" * len(facts))
    done = base.execute(f"INSERT OR IGNORE INTO runs ({names}) VALUES ({marks})", list(facts.values()))
    if not done.rowcount:
        return False
    base.executemany(f"INSERT INTO stages VALUES ({', '.join('?' * 12)})", _stages(report, str(facts["id"])))
    base.executemany(
        f"INSERT INTO findings VALUES ({', '.join('?' * 11)})", _findings(report, str(facts["id"]))
    )
    base.executemany("INSERT INTO tensors VALUES (?, ?, ?, ?)", _tensors(report, str(facts["id"])))
    return True


def _facts(report: Report) -> dict[str, object]:
    """The row of a run."""
    run, first, logits = report.run, report.first_divergence, report.logits
    git = run.git if run else None
    # what a library call reports is no run of the program: its content tells it from others
    identity = run.id if run else hashlib.sha256(report.to_json().encode()).hexdigest()[:32]
    started = datetime.fromisoformat(run.started) if run else datetime.now(UTC)
    return {
        "id": identity,
        "started": started.isoformat(timespec="milliseconds"),
        "started_unix": started.timestamp(),
        "left_operand": report.left.operand,
        "right_operand": report.right.operand,
        "prompt": _text(report.prompt if report.prompt is not None else str(report.tokens.left)),
        "verdict": report.verdict,
        "reason": _text(report.reason),
        "first_stage": first.name if first else None,
        "passed": report.assertion.passed,
        "exit_code": report.assertion.exit_code,
        "reference": report.reference,
        "threshold": report.threshold,
        "left_header_sha256": report.left.header_sha256,
        "right_header_sha256": report.right.header_sha256,
        "left_sha256": report.left.sha256,
        "right_sha256": report.right.sha256,
        "version": report.tool.version,
        "host": run.host.name if run else None,
        "git_commit": git.commit if git else None,
        "git_branch": git.branch if git else None,
        "git_dirty": git.dirty if git else None,
        "kl": logits.kl if logits else None,
        "next_token_agrees": logits.argmax_match if logits else None,
        "total_seconds": report.timing.total_s,
        "peak_bytes": report.peak_rss_bytes,
    }


def _stages(report: Report, run: str) -> Iterator[Sequence[object]]:
    for position, stage in enumerate(report.stages):
        local = stage.local
        numbers = (
            stage.max_diff,
            stage.rel,
            stage.rel_l2,
            local.max_diff if local else None,
            local.predicted_max_diff if local else None,
            local.worst_ratio if local else None,
        )
        # SQLite takes NaN for NULL.
        kept = (math.inf if number is not None and math.isnan(number) else number for number in numbers)
        yield (run, position, stage.name, stage.layer, stage.op, stage.status, *kept)


def _findings(report: Report, run: str) -> Iterator[Sequence[object]]:
    for position, f in enumerate(report.findings):
        stage = f.evidence.stage if f.evidence else None
        named = (f.layer, _text(f.tensor), _text(f.key), f.status, f.latent, stage, _text(f.message))
        yield run, position, f.kind, f.side, *named


def _tensors(report: Report, run: str) -> Iterator[Sequence[object]]:
    for side, facts in (("left", report.left), ("right", report.right)):
        for name, digest in (facts.tensors_sha256 or {}).items():
            yield run, side, _text(name), digest


def _text(text: str | None) -> str | None:
    """Text that SQLite takes: no lone surrogates."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")
