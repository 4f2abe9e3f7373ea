"""`rosetta contracts [PATH…]`: do contracts hold? Parses, calls, prints, exits."""

from __future__ import annotations

from typing import Annotated

import typer

from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show

EXIT_CODES = {"pass": 0, "fail": 1, "unknown": 3, "malformed": 2}
FOLDER = "contracts"


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("contracts", short_help="Validate and run contracts.")(contracts)


def contracts(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH…]", help=f"YAML files, or folders of them; ./{FOLDER} without."),
    ] = None,
    *,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write it as JSON. - is stdout, and nothing else is then."),
    ] = None,
) -> None:
    """Validate contracts and run their falsifiers: lints, comparisons, looks at a
    config or a report, on the files that a contract names or on specimens that rosetta
    makes. Each has a control, the same run with something broken on purpose, which must
    come out otherwise.

    Exits 0 when all hold, 1 when one does not, 3 when one could not be judged or there
    is none, 2 when one is malformed.

    \b
    Examples:
      rosetta contracts
      rosetta contracts contracts/rope-order-v1.yaml --json -
    """
    if json is not None:
        check_target(json)
    from rosetta.contracts.run import run_contracts  # imports YAML and numpy: not at the program's start
    from rosetta.contracts.text import render

    with Terminal() as listener:
        report = run_contracts(paths or [FOLDER], listener.working)
    if json != STDOUT:
        show(render(report))
    if json is not None:
        deliver(report.to_json(), json)
    raise typer.Exit(EXIT_CODES[report.verdict])
