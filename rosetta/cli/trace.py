"""`rosetta trace OPERAND -o FILE`: record every stage of one run. Parses, calls, prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rosetta.cli.options import (
    Device,
    OnDevice,
    Precision,
    Prompt,
    PromptFile,
    RuntimeOptions,
    Tokens,
    given_prompt,
    given_runtime_options,
    given_tokens,
    refuse_unreadable,
)
from rosetta.cli.terminal import STDOUT, Terminal, check_target, show
from rosetta.compare.options import AUTO, TRACE, live
from rosetta.errors import UsageError


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("trace", short_help="Record every stage of a run as safetensors.")(trace)


def trace(
    operand: Annotated[
        str,
        typer.Argument(metavar="OPERAND", help="A model, or llamacpp:FILE, transformers:FOLDER."),
    ],
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The .safetensors file to write.")
    ],
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = None,
    device: OnDevice = Device.cpu,
    dtype: Annotated[
        Precision, typer.Option(help="Precision to compute in; float32 is written.")
    ] = Precision.float32,
    runtime_option: RuntimeOptions = None,
    quiet: Annotated[bool, typer.Option("-q", help="Say nothing.")] = False,
) -> None:
    """Run one model and write every stage as a float32 tensor under its stage name.

    The run's facts (tokens, prompt, architecture, config) are in the file's metadata under `rosetta`. What llama.cpp or
    transformers compute is recorded of `llamacpp:FILE` and `transformers:FOLDER`.

    \b
    Examples:
      rosetta trace model.gguf -o run.safetensors
      rosetta trace hf-folder --tokens 17,10,17,28 -o run.safetensors
      rosetta trace transformers:hf-folder -o run.safetensors
    """
    if output == STDOUT:
        raise UsageError("a trace cannot go to stdout", remedy="name a file with -o")
    check_target(output)
    text, given = given_prompt(prompt, prompt_file, tokens), given_tokens(tokens)
    if text == AUTO and given is None:
        raise UsageError("--prompt auto compares two configs, and this is one model", remedy="give a prompt")
    if operand.startswith(TRACE):
        raise UsageError("a trace is recorded already", file=operand, remedy="give a model")
    options = given_runtime_options(runtime_option)
    run = live(operand)
    if run is None and options:
        raise UsageError(
            "--runtime-option is of a runtime",
            file=operand,
            remedy="give llamacpp:FILE or transformers:FOLDER",
        )
    if run is not None and (device is not Device.cpu or dtype is not Precision.float32):
        raise UsageError(
            f"--device and --dtype are not {run[0]}'s", file=operand, remedy="use --runtime-option KEY=VALUE"
        )
    refuse_unreadable(operand)
    if run is not None:
        count, ids = _of_runtime(run, Path(output), text, given, options, quiet=quiet)
    else:
        count, ids = _of_model(operand, Path(output), text, given, device.value, dtype.value, quiet=quiet)
    if not quiet:
        show(f"{output}: {count} stages of {len(ids)} tokens\n")


def _of_runtime(
    run: tuple[str, str],
    output: Path,
    text: str,
    given: tuple[int, ...] | None,
    options: Mapping[str, str],
    *,
    quiet: bool,
) -> tuple[int, Sequence[int]]:
    """Record what somebody else's runtime computes: how many stages, of which tokens."""
    from rosetta.runtimes.live import refuse_unknown, requested, traced
    from rosetta.sources import located_here

    runtime, place = run
    refuse_unknown([runtime], options)
    with Terminal(quiet=quiet) as listener:
        listener.working(f"running {runtime}:{place}", 0, 0)
        request = requested(runtime, located_here(place, runtime), text, given, options)
        return traced(request, output), request.ids


def _of_model(
    operand: str,
    output: Path,
    text: str,
    given: tuple[int, ...] | None,
    device: Any,
    dtype: Any,
    *,
    quiet: bool,
) -> tuple[int, Sequence[int]]:
    """Record what our transformer computes: how many stages, of which tokens."""
    from rosetta.compare.listener import loaded_tensors
    from rosetta.model import open_model

    # Imports torch: not before it is needed.
    from rosetta.runtimes.torch import prompt_ids, run_facts, run_stages
    from rosetta.runtimes.trace import write_trace

    with Terminal(quiet=quiet) as listener:
        model = open_model(operand)
        listener.loaded(model.container.label, loaded_tensors(model))
        ids = prompt_ids(model.container, text) if given is None else list(given)
        facts = run_facts(model, operand, None if given else text, ids, dtype)
        return write_trace(output, run_stages(model, ids, device, dtype), facts), ids
