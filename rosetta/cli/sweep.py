"""`rosetta sweep MANIFEST`: many comparisons, one report each, and a matrix. Parses, calls, prints, exits."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, get_args

import typer

from rosetta.cli.compare import compare
from rosetta.cli.outputs import deliver_reports
from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show, width
from rosetta.errors import UsageError
from rosetta.sweep.executors import Limits, Outcome, executor, names
from rosetta.sweep.job import Job
from rosetta.sweep.junit import junit_of
from rosetta.sweep.manifest import read_manifest
from rosetta.sweep.matrix import MARKS, matrix_of
from rosetta.sweep.sweep import is_answered, run_jobs, shard_of, stored

NOT_GIVEN = {
    "left",
    "right",
    "prompt",
    "prompt_file",
    "tokens",
    "verbose",
    "quiet",
    "layers",
    "stage",
    "github",
    "targets",
}
"""What a manifest says otherwise, or what is of a screen that nobody sees."""


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("sweep", short_help="Make many comparisons, of a manifest.")(sweep)


def sweep(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="YAML or JSONL: pairs, matrix, prompts.")
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the reports lie.")] = Path("reports"),
    force: Annotated[bool, typer.Option("--force", help="Run those that have a report, too.")] = False,
    collect: Annotated[
        bool, typer.Option("--collect", help="Run nothing; the matrix of what is there.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only every N-th job, from the I-th on.")
    ] = None,
    on: Annotated[
        str, typer.Option("--executor", metavar="NAME", help=f"{' or '.join(names())}.")
    ] = "processes",
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, metavar="N", help="At once.  [default: half of the cores]")
    ] = None,
    memory: Annotated[str | None, typer.Option(metavar="8G", help="What each may allocate.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Seconds that each may take.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of a job whose process or node died.")
    ] = 0,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write the matrix as JSON. - is stdout.")
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the matrix as a page, with a page of each report."),
    ] = None,
    junit: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write JUnit XML, a test case a job. - is stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", help="Only the last line.")] = False,
) -> None:
    """Make every comparison that a manifest asks for, each in a process of its
    own that leaves a report under the job's id; what has a report is not run
    again, so that an interrupted sweep goes on where it was.

    Exits 1 when a comparison failed what it asserts, else 2 when one could not
    be made, else 3 when one judged nothing or is missing.

    \b
    Examples:
      rosetta sweep pairs.yaml --out reports
      rosetta sweep pairs.jsonl --shard 2/8 --memory 8G
      rosetta sweep pairs.yaml --collect --json matrix.json
      rosetta sweep pairs.yaml --html index.html --junit junit.xml
    """
    targets = _checked({"json": json, "html": html, "junit": junit})
    all_jobs = read_manifest(manifest, option_names())
    mine = all_jobs if shard is None else shard_of(shard).of(all_jobs)
    out.mkdir(parents=True, exist_ok=True)
    if not collect:
        waiting = [job for job in mine if force or not is_answered(job, out)]
        limits = Limits(jobs, None if memory is None else given_bytes(memory), timeout, retries)
        with Terminal(quiet=quiet) as listener:
            progress = _Progress(listener, out, len(mine), len(mine) - len(waiting))
            run_jobs(
                waiting, out, manifest.parent, executor=executor(on), limits=limits, ended=progress.ended
            )
    found = matrix_of(mine, out)
    if STDOUT not in targets.values():
        text = found.to_text(width())
        show(text.splitlines()[-1] + "\n" if quiet else text)
    if json is not None:
        deliver(found.to_json(), json)
    if junit is not None:
        deliver(junit_of(found), junit)
    if html is not None:
        _deliver_page(mine, out, html)
    raise typer.Exit(found.exit_code)


def _checked(given: dict[str, str | None]) -> dict[str, str]:
    """Where results go, by option, all of which can be written: asked before the work and not after it."""
    targets = {option: target for option, target in given.items() if target is not None}
    if targets.get("html") == STDOUT:
        raise UsageError("--html of several reports is several files", remedy="name a file for the first")
    for target in targets.values():
        check_target(target)
    if len(set(targets.values())) < len(targets):
        raise UsageError("two results cannot go to one place", remedy="name a file for each")
    return targets


def _deliver_page(jobs: list[Job], folder: Path, target: str) -> None:
    """The page of all reports, and what lies beside it."""
    from rosetta.report import outputs
    from rosetta.sweep.collected import collected  # imports torch and pydantic: not at the program's start

    page = next(output for output in outputs() if output.name == "html")
    deliver_reports({page: target}, collected(jobs, folder))


class _Progress:
    """Says how far the sweep is and how each job ended."""

    def __init__(self, listener: Terminal, folder: Path, total: int, done: int) -> None:
        self.listener, self.folder, self.total, self.done = listener, folder, total, done
        if done:
            listener.working(f"have a report: {done}", done, total)

    def ended(self, outcome: Outcome) -> None:
        """One more has ended."""
        self.done += 1
        verdict = (stored(outcome.job, self.folder) or {}).get("verdict", "error")
        mark = MARKS.get(verdict, "?")
        self.listener.working(f"{mark} {_called(outcome.job)}; job {self.done}", self.done, self.total)


def _called(job: Job) -> str:
    return f"{job.row}, {job.prompt.name}"


def option_names() -> set[str]:
    """Long names of the options of `rosetta compare` that a manifest may give."""
    found = set()
    for name, parameter in inspect.signature(compare, eval_str=True).parameters.items():
        if name in NOT_GIVEN:
            continue
        options = [a for a in get_args(parameter.annotation) if hasattr(a, "param_decls")]
        # In Annotated, the first name of a typer.Option stands where a default otherwise does.
        declared = [d for option in options for d in (option.default, *(option.param_decls or ()))]
        spelled = [d for d in declared if isinstance(d, str) and d.startswith("--")]
        found.add((spelled[0] if spelled else name.replace("_", "-")).removeprefix("--"))
    return found


def given_bytes(text: str) -> int:
    """`512M`, `8G`, or bytes.

    Raises:
        UsageError: it is not so written, or nothing could run in it.

    >>> given_bytes("8G")
    8589934592
    """
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    if not (number.isascii() and number.isdigit() and len(number) < 16 and int(number) > 0):
        raise UsageError(f"--memory is a size such as 8G or 512M, not {text[:40]!r}")
    return int(number) << units.get(unit, 0)
