"""`rosetta convert SRC DST`: a model in another container, proven. Parses, calls, prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.options import (
    Device,
    Precision,
    Prompt,
    PromptFile,
    Reference,
    Tokens,
    given_options,
    refuse_unreadable,
)
from rosetta.cli.terminal import STDOUT, Terminal, show
from rosetta.errors import UsageError
from rosetta.report.exit_code import PASSED, exit_code

# llama.cpp, convert_hf_to_gguf.py, split_str_to_n_bytes.
UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("convert", short_help="Write a model in another container, and prove it.")(convert)


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file or folder that holds a model.")],
    target: Annotated[
        str,
        typer.Argument(metavar="DST", help="What to write: NAME.gguf, NAME.apr, else a Hugging Face folder."),
    ],
    *,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="Encode matrices as F32, F16, BF16, Q8_0, Q4_K, …; norms, biases and other vectors stay F32. Without "
            "it nothing is encoded anew.",
        ),
    ] = None,
    split_max_size: Annotated[
        str | None,
        typer.Option(
            metavar="N(K|M|G)",
            help="Split into files of at most so many bytes of tensors: 500M, 2G; 0: one file.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DST where it exists.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Lint what was written, and compare it with SRC.")
    ] = True,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = None,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
) -> None:
    """Write a model in another container, open what was written, hold its headers to
    the rules of rosetta lint, and compare it with the source, stage by stage and
    weight by weight.

    Bytes stay as they are: quantised blocks, BF16 and F16 pass through, and
    nothing is encoded anew unless --dtype asks for it or the container has no
    such dtype. Settings are the architecture's own, under the keys that
    llama.cpp and transformers read; what a container has no place for is said.
    Weights that a scheme packed (GPTQ, FP8, …) stay so in another folder, MXFP4 in
    GGUF too; elsewhere they are decoded.

    DST has its name only when it is whole. Exits as the comparison does: 0 when
    the two match (or drift as the dtypes explain), 1 when not, 3 when nothing
    could be compared.

    \b
    Examples:
      rosetta convert hf-folder model.gguf
      rosetta convert hf-folder model.gguf --dtype Q8_0 --split-max-size 2G
      rosetta convert model.gguf hf-folder
    """
    if target == STDOUT:
        raise UsageError("a model cannot go to stdout", remedy="name a file or folder")
    options = given_options(
        prompt=prompt,
        prompt_file=prompt_file,
        tokens=tokens,
        threshold=None,
        reference=Reference.right,
        devices=(Device.cpu, Device.cpu),
        dtype=Precision.float32,
    )
    size = _bytes(split_max_size)
    refuse_unreadable(source)
    from rosetta.convert import (
        convert as converted,  # imports torch: not before there is something to compute
    )
    from rosetta.convert.text import render
    from rosetta.report.build import build_report
    from rosetta.report.summary import verdict_line

    with Terminal(quiet=quiet) as listener:
        done = converted(
            source,
            Path(target),
            options,
            listener,
            dtype=dtype.upper() if dtype else None,
            split_bytes=size,
            force=force,
            verify=verify,
        )
    report = build_report(done.comparison) if done.comparison is not None else None
    verdict = verdict_line(report) if report is not None else None
    show(f"{verdict or 'not compared'}\n" if quiet else render(done, source, target, verdict))
    raise typer.Exit(PASSED if report is None else exit_code(report, assert_match=True))


def _bytes(text: str | None) -> int:
    """The size that `--split-max-size` gives.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return 0
    found = re.fullmatch(r"(\d+)([KMG]?)", text.strip().upper(), re.ASCII)
    if found is None:
        raise UsageError(
            f"--split-max-size is a number of bytes, or of K, M or G, such as 500M or 2G, not {text!r:.40}"
        )
    return int(found[1]) * UNITS[found[2]]
