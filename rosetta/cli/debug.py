"""`rosetta debug LEFT RIGHT`: walk through a comparison at the terminal. Parses, compares, runs the program."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rosetta.cli.options import (
    Believed,
    Device,
    InPrecision,
    Left,
    OnDevice,
    Precision,
    Prompt,
    PromptFile,
    Reference,
    Right,
    Tokens,
    given_options,
    refuse_unreadable,
)
from rosetta.cli.terminal import Terminal
from rosetta.compare.options import TRACE, live
from rosetta.errors import UsageError

if TYPE_CHECKING:
    from rosetta.compare.options import Options
    from rosetta.report.report import Report


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("debug", short_help="Walk through a comparison at the terminal.")(debug)


def debug(
    left: Left,
    right: Right,
    *,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = None,
    reference: Believed = Reference.right,
    device: OnDevice = Device.cpu,
    dtype: InPrecision = Precision.float32,
) -> None:
    """Compare two models and walk through the result: layers down, stages across;
    f goes to the next fault, m shows the other figure, Enter on a finding goes to
    its stage, and r compares again with the confirmed repairs, in a copy that is
    gone afterwards.

    \b
    Examples:
      rosetta debug model.apr model.gguf
      rosetta debug hf-folder model.gguf --prompt "Once upon a time"
    """
    if importlib.util.find_spec("textual") is None:
        raise UsageError("debug needs textual", remedy="pip install 'rosetta-trace[debug]'")
    options = given_options(
        prompt=prompt,
        prompt_file=prompt_file,
        tokens=tokens,
        threshold=None,
        reference=reference,
        devices=(device, device),
        dtype=dtype,
    )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("debug needs a terminal", remedy="rosetta LEFT RIGHT -vv writes the same as text")
    refuse_unreadable(left, right)
    from rosetta.debug import Debugger  # imports textual
    from rosetta.diagnose import compare_operands  # imports torch: not before there is something to compute
    from rosetta.report.build import build_report

    with Terminal() as listener:
        report = build_report(compare_operands(left, right, options, listener))
    recorded = any(operand.startswith(TRACE) or live(operand) is not None for operand in (left, right))
    Debugger(report, None if recorded else lambda: repaired(left, right, options)).run()


def repaired(left: str, right: str, options: Options) -> Report:
    """The comparison with all confirmed repairs in a copy of the accused operand; the copy is removed."""
    from rosetta.repair import repair_operands  # imports torch
    from rosetta.report.build import build_report

    with tempfile.TemporaryDirectory(prefix="rosetta-debug-") as folder:
        done = repair_operands(left, right, Path(folder) / "repaired", options)
        return build_report(done.after or done.before)
