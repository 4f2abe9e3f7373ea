"""`rosetta bench`: plant faults and count what is found; time whole comparisons. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.checkout import load_fixtures
from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show
from rosetta.errors import UsageError

REPORTED_SEED = 100_000
"""Seeds 0 … 999 are those that thresholds were looked at with; what is reported begins here."""
REPORTED_SHAPE, GROWING_SHAPE = "qwen2.5-1.5b", "small"


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    bench = typer.Typer(rich_markup_mode=None)
    bench.callback(
        help="Measure rosetta itself, in a checkout of its repository.",
        no_args_is_help=True,
    )(_nothing)
    bench.command("faults", short_help="Plant faults in models and count what is found.")(faults)
    bench.command("speed", short_help="Time whole comparisons of full-size files.")(speed)
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
        str | None,
        typer.Option(metavar="KIND,…", help="Kinds or families: value.scaled, config, every, blueprints."),
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
    load_fixtures()
    from fixtures.bench.faults import chosen_kinds, run_faults  # imports torch and fixtures: not before now
    from fixtures.bench.table import render, to_json

    wanted = chosen_kinds(names)
    with Terminal() as listener:
        scores = run_faults(cases, seed, names, listener.working)
    if not quiet:
        show(render(scores, wanted, seed), to_stderr=json == STDOUT)
    if json is not None:
        deliver(to_json(scores, wanted, seed), json)


def speed(
    *,
    shape: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Of the model.  [default: {REPORTED_SHAPE}]")
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Of each process.")] = 3,
    tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Length of the prompt.")] = 4,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Let layers, prompt and width of a small model grow instead.")
    ] = False,
    peers: Annotated[bool, typer.Option(help="Run llama.cpp and transformers too.")] = True,
    unquantised: Annotated[
        bool,
        typer.Option("--unquantised", help="Compare the GGUF file with a BF16 one, of thrice its size, too."),
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the files are written.  [default: a temporary one]"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the pair in --folder.")] = False,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Everything as JSON. - is stdout.")
    ] = None,
) -> None:
    """Write a Q4_K_M pair of random weights, compare it clean, with an early and with a late fault, and time it all.

    Every figure is of a whole process, Python's start included: the best wall time of its runs, their median, the
    least processor time, the largest resident memory. A report that is not right ends the benchmark.

    \b
    Examples:
      rosetta bench speed
      rosetta bench speed --shape llama-8b --runs 1 --folder /big/disk
      rosetta bench speed --scaling --json growth.json
    """
    if json is not None:
        check_target(json)
    if unquantised and scaling:
        raise UsageError("--scaling has no --unquantised", remedy="leave one of them out")
    if keep and (folder is None or scaling):
        raise UsageError("--keep keeps one pair in --folder DIR", remedy="name a folder, and no --scaling")
    if folder is not None and not keep and not folder.is_dir():
        raise UsageError("is no folder", file=folder, remedy="make it first")
    load_fixtures()
    from fixtures.bench.speed import place_for, run_growth, run_speed  # imports numpy: not before now
    from fixtures.bench.speed_shapes import shape_of
    from fixtures.bench.speed_table import render, to_json

    chosen = shape_of(shape or (GROWING_SHAPE if scaling else REPORTED_SHAPE))
    if tokens > chosen.context:
        raise UsageError(
            f"{chosen.name} has a context of {chosen.context} tokens", remedy="ask for fewer --tokens"
        )
    with Terminal() as listener, place_for(folder, keep) as place:
        if scaling:
            measured = run_growth(chosen, runs, tokens, place, listener.working)
        else:
            measured = run_speed(
                chosen, runs, tokens, place, listener.working, peers=peers, unquantised=unquantised
            )
    show(render(measured), to_stderr=json == STDOUT)
    if json is not None:
        deliver(to_json(measured), json)
