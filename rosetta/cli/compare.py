"""`rosetta LEFT RIGHT`: compare two models stage by stage. Parses, calls, prints; decides nothing."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rosetta.cli.outputs import Targets, takes_stdout, with_outputs
from rosetta.cli.terminal import Terminal, deliver, show
from rosetta.compare.options import DEFAULT_PROMPT, DEFAULT_THRESHOLD, Options
from rosetta.errors import UsageError
from rosetta.report.exit_code import exit_code

if TYPE_CHECKING:
    from rosetta.compare.listener import Listener
    from rosetta.report.report import Report

TRACE = "trace:"  # a recorded run, not a model
LARGEST_ID = 2**31 - 1  # llama.h, llama_token is an int32_t


class Reference(StrEnum):
    """The side that is believed."""

    left = "left"
    right = "right"


class Device(StrEnum):
    """Where the torch runtime computes."""

    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """In what precision the torch runtime computes."""

    float32 = "float32"
    float64 = "float64"


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("compare", short_help="Compare two models (the default command).")(with_outputs(compare))


def compare(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="A file or folder that holds a model.")],
    right: Annotated[
        str, typer.Argument(metavar="RIGHT", help="The one to compare it with, and to believe.")
    ],
    *,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help=f"What to run.  [default: {DEFAULT_PROMPT}]")
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read the prompt; a last line break is dropped.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="17,10,…", help="Token IDs to run instead of a prompt.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest difference of a stage, times max(1, its rms). Given, it is a hard limit.  "
            f"[default: {DEFAULT_THRESHOLD}]",
        ),
    ] = None,
    assert_match: Annotated[
        bool, typer.Option("--assert-match", help="Exit 1 when they diverge, 3 when nothing was compared.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --assert-match: drift and latent findings fail too.")
    ] = False,
    reference: Annotated[Reference, typer.Option(help="The side that is believed.")] = Reference.right,
    stop_at_first: Annotated[
        bool, typer.Option("--stop-at-first", help="Stop at the first divergent stage, once diagnosed.")
    ] = False,
    no_diagnose: Annotated[bool, typer.Option("--no-diagnose", help="Only compare.")] = False,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.cpu,
    left_device: Annotated[
        Device | None, typer.Option(help="Where to compute the left side.  [default: --device]")
    ] = None,
    right_device: Annotated[
        Device | None, typer.Option(help="Where to compute the right side.  [default: --device]")
    ] = None,
    dtype: Annotated[Precision, typer.Option(help="Precision to compute in.")] = Precision.float32,
    verbose: Annotated[
        int,
        typer.Option(
            "-v", count=True, help="Every stage (-v), and its worst values (-vv).", show_default=False
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
    targets: Targets,
) -> None:
    """Compare two models stage by stage; where they differ, find out why and prove it.

    \b
    Examples:
      rosetta model.apr model.gguf
      rosetta compare model.apr model.gguf --prompt "2+2=" --assert-match
      rosetta hf-folder model.gguf --tokens 17,10,17,28 -v --json report.json
    """
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other")
    if strict and not assert_match:
        raise UsageError("--strict asserts nothing by itself", remedy="add --assert-match")
    options = Options(
        prompt=given_prompt(prompt, prompt_file, tokens),
        tokens=given_tokens(tokens),
        threshold=DEFAULT_THRESHOLD if threshold is None else given_threshold(threshold),
        threshold_is_explicit=threshold is not None,
        reference=reference.value,
        stop_at_first=stop_at_first,
        diagnose=not no_diagnose,
        left_device=(left_device or device).value,
        right_device=(right_device or device).value,
        dtype=dtype.value,
    )
    with Terminal(quiet=quiet, each=verbose > 0) as listener:
        report = _report(left, right, options, listener)
    from rosetta.report.text import render

    show(render(report, -1 if quiet else verbose), to_stderr=takes_stdout(targets))
    for output, target in targets.items():
        deliver(output.render(report), target)
    limit = options.threshold_is_explicit
    raise typer.Exit(exit_code(report, assert_match=assert_match, strict=strict, threshold_is_explicit=limit))


def _report(left: str, right: str, options: Options, listener: Listener) -> Report:
    refuse_unreadable(left, right)
    from rosetta.diagnose import compare_operands  # imports torch: not before there is something to compute
    from rosetta.report.build import build_report

    return build_report(compare_operands(left, right, options, listener))


def refuse_unreadable(*operands: str) -> None:
    """Open each file or folder and close it again: what cannot be read is refused before torch takes its second."""
    from rosetta.containers import open_container

    for operand in operands:
        if not operand.startswith(TRACE):
            open_container(operand).close()


def given_prompt(prompt: str | None, file: Path | None, tokens: str | None) -> str:
    """The prompt that the options name; the default one where they name none."""
    if sum(given is not None for given in (prompt, file, tokens)) > 1:
        raise UsageError("--prompt, --prompt-file and --tokens exclude each other", remedy="give one of them")
    if file is None:
        text = DEFAULT_PROMPT if prompt is None else prompt
        if not _is_unicode(text):
            raise UsageError("--prompt is not UTF-8 text", remedy="--tokens runs any ids")
        return text
    if not file.is_file():
        raise UsageError("no such file", file=file, remedy="--prompt-file names a text file")
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("is not UTF-8 text", file=file, where=f"byte {error.start}") from error
    # As llama.cpp's --file: editors end a file with a line break that is no part of the prompt.
    return text.removesuffix("\n").removesuffix("\r")


def _is_unicode(text: str) -> bool:
    """Whether an argument was UTF-8: Python keeps other bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def given_tokens(text: str | None) -> tuple[int, ...] | None:
    """The token ids that `--tokens` lists; None where it was not given."""
    if text is None:
        return None
    parts = [part.strip() for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) <= LARGEST_ID for part in parts):
        raise UsageError("--tokens are ids separated by commas, such as 17,10,17,28", where=repr(text[:80]))
    return tuple(int(part) for part in parts)


def given_threshold(threshold: float) -> float:
    """The limit that `--threshold` sets."""
    if not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(f"--threshold is a number from 0 on, not {threshold}")
    return threshold
