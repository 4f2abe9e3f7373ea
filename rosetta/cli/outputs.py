"""One option `--NAME FILE|-` for each output of the report package, so that an output is one file there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from rosetta.cli.terminal import STDOUT, check_target
from rosetta.errors import UsageError
from rosetta.report import Output, outputs

Targets = Mapping[Output, str]
"""Where each wanted output goes: a file, or `-` for stdout."""


def with_outputs(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of all outputs; it is given their targets as its argument `targets`."""
    found = {output.name: output for output in outputs()}

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        wanted = {output: arguments.pop(name) for name, output in found.items()}
        command(**arguments, targets=checked({output: target for output, target in wanted.items() if target}))

    signature = inspect.signature(command, eval_str=True)
    options = [_option(output) for output in found.values()]
    parameters = [p for p in signature.parameters.values() if p.name != "targets"] + options
    vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


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
