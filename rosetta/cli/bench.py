"""`rosetta bench faults`: plant faults and count what is found. Parses, calls, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show
from rosetta.errors import UsageError

REPORTED_SEED = 100_000
"""Seeds 0 … 999 are those that thresholds were looked at with; what is reported begins here."""


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    bench = typer.Typer(rich_markup_mode=None)
    bench.callback(help="Measure rosetta itself, in a checkout of its repository.", no_args_is_help=True)(
        _nothing
    )
    bench.command("faults", short_help="Plant faults in models and count what is found.")(faults)
    app.add_typer(bench, name="bench", short_help="Measure rosetta itself.")


def _nothing() -> None:
    """Benchmarks are commands of this one."""


def faults(
    *,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="How many; the kinds take turns.")] = 500,
    seed: Annotated[
        int,
        typer.Option(metavar="S", min=0, help="Of the first case; each has the next. Below 1000: looked at."),
    ] = REPORTED_SEED,
    kinds: Annotated[
        str | None, typer.Option(metavar="KIND,…", help="Kinds or families: value.scaled, config, clean.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Everything as JSON. - is stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", help="No table.")] = False,
) -> None:
    """Build models, plant faults of every kind, compare, and score each report against what was planted.

    A kind and a seed give the same case on every machine; what is not all right is listed with both.

    \b
    Examples:
      rosetta bench faults --cases 600
      rosetta bench faults --kinds layout,value.scaled --seed 7 --cases 20 --json -
    """
    if json is not None:
        check_target(json)
    names = [name.strip() for name in (kinds or "").split(",") if name.strip()]
    if kinds is not None and not names:
        raise UsageError("--kinds names none")
    from rosetta.bench.checkout import load_fixtures

    load_fixtures()
    from rosetta.bench.faults import chosen_kinds, run_faults  # imports torch and fixtures: not before now
    from rosetta.bench.table import render, to_json

    wanted = chosen_kinds(names)
    with Terminal() as listener:
        scores = run_faults(cases, seed, names, listener.working)
    if not quiet:
        show(render(scores, wanted, seed), to_stderr=json == STDOUT)
    if json is not None:
        deliver(to_json(scores, wanted, seed), json)
