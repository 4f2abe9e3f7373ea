"""One option `--NAME FILE|-` for each output of the report package, so that an output is one file there; `--github`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rosetta.cli.github import annotate, under_actions
from rosetta.cli.options import asked_of
from rosetta.cli.program import in_one_sentence
from rosetta.cli.run_facts import run_facts, started_now
from rosetta.cli.terminal import STDOUT, check_target, deliver
from rosetta.errors import UsageError
from rosetta.report import Output, outputs

if TYPE_CHECKING:
    from rosetta.compare.results import Side
    from rosetta.report.report import Report

Targets = Mapping[Output, str]
"""Where each wanted output goes: a file, or `-` for stdout."""


def with_outputs(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of all outputs; it is given their targets as its argument `targets`."""
    found = {output.name: output for output in outputs()}

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        wanted = {output: arguments.pop(name) for name, output in found.items()}
        targets = {output: target for output, target in wanted.items() if target}
        try:
            command(**arguments, targets=checked(targets))
        except typer.Exit:
            raise
        except Exception as error:
            left, right = (str(arguments.get(side, "")) for side in ("left", "right"))
            deliver_error(targets, error, left, right, asked_of(arguments), arguments.get("github"))
            raise

    signature = inspect.signature(command, eval_str=True)
    options = [_option(output) for output in found.values()]
    parameters = [p for p in signature.parameters.values() if p.name != "targets"] + options
    vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def deliver_report(targets: Targets, report: Report, github: bool | None = None) -> None:
    """Write a report in every form that was asked for.

    Args:
        targets: where each goes.
        report: what was found.
        github: whether GitHub Actions is told as well; None: where it runs this.
    """
    for output, target in targets.items():
        deliver(output.render(report), target)
    if under_actions(github):
        annotate([report], to_stderr=takes_stdout(targets))


def deliver_reports(targets: Targets, reports: Mapping[str, Report]) -> None:
    """Write several reports in every form that was asked for, each form one file (with what belongs beside it).

    Args:
        targets: where each goes.
        reports: by name.

    Raises:
        UsageError: a form holds one report alone, or has files beside it that stdout has no place for.
    """
    for output, target in targets.items():
        if output.render_all is None:
            raise UsageError(f"--{output.name} holds one report, and {len(reports)} are given")
        if output.beside is not None and target == STDOUT:
            raise UsageError(
                f"--{output.name} of several reports is several files", remedy="name a file for the first"
            )
    for output, target in targets.items():
        assert output.render_all is not None
        for path, text in (output.beside(reports) if output.beside else {}).items():
            place = Path(target).parent / path
            place.parent.mkdir(exist_ok=True)
            deliver(text, str(place))
        deliver(output.render_all(reports), target)


def deliver_error(
    targets: Targets,
    error: Exception,
    left: str = "",
    right: str = "",
    asked: tuple[str | None, Sequence[int]] = (None, ()),
    github: bool | None = None,
) -> None:
    """Write every report that was asked for, saying why there is none: yesterday's must not stand there.

    Args:
        targets: of the reports; one that cannot be written is left.
        error: why.
        left, right: the operands, where they are known.
        asked: the prompt, or the ids, where they are known.
        github: see `deliver_report`.
    """
    writable = {output: target for output, target in targets.items() if _is_writable(target)}
    if not writable and not under_actions(github):
        return
    from rosetta.report.build import error_report  # imports torch: not at the program's start

    operands: dict[Side, str] = {"left": left, "right": right}
    report = error_report(operands, in_one_sentence(error), run_facts(started_now()), *asked)
    deliver_report(writable, report, github)


def named_targets(arguments: Sequence[str]) -> Targets:
    """The targets that a command line names which could not be parsed."""
    found: dict[Output, str] = {}
    for output in outputs():
        option = f"--{output.name}"
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
            target = following if argument == option else argument.removeprefix(f"{option}=")
            if target and (argument == option or target != argument):
                found[output] = target
    return found


def _is_writable(target: str) -> bool:
    try:
        check_target(target)
    except UsageError:
        return False
    return True


def checked(targets: Targets) -> Targets:
    """Targets that can be written.

    Raises:
        UsageError: one of them cannot, or two are to go to one place.
    """
    for target in targets.values():
        check_target(target)
    if len(set(targets.values())) < len(targets):
        raise UsageError("two reports cannot go to one place", remedy="name a file for each")
    return targets


def takes_stdout(targets: Targets) -> bool:
    """Whether stdout belongs to an output alone."""
    return STDOUT in targets.values()


def _option(output: Output) -> inspect.Parameter:
    option = typer.Option(f"--{output.name}", metavar="FILE|-", help=f"{output.help} - is stdout.")
    annotation = Annotated[str | None, option]
    return inspect.Parameter(output.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
