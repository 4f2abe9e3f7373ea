"""`rosetta trace OPERAND -o FILE`: record every stage of one run. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.options import (
    Device,
    OnDevice,
    Precision,
    Prompt,
    PromptFile,
    Tokens,
    given_prompt,
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
    operand: Annotated[str, typer.Argument(metavar="OPERAND", help="A file or folder that holds a model.")],
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
    quiet: Annotated[bool, typer.Option("-q", help="Say nothing.")] = False,
) -> None:
    """Run one model and write every stage as a float32 tensor under its stage name.

    The run's facts (tokens, prompt, architecture, config) are in the file's metadata under `rosetta`.

    \b
    Examples:
      rosetta trace model.gguf -o run.safetensors
      rosetta trace hf-folder --tokens 17,10,17,28 -o run.safetensors
    """
    if output == STDOUT:
        raise UsageError("a trace cannot go to stdout", remedy="name a file with -o")
    check_target(output)
    text, given = given_prompt(prompt, prompt_file, tokens), given_tokens(tokens)
    if text == AUTO and given is None:
        raise UsageError("--prompt auto compares two configs, and this is one model", remedy="give a prompt")
    if operand.startswith(TRACE) or live(operand) is not None:
        raise UsageError(
            "only a file or a folder can be recorded here",
            file=operand,
            remedy="leave out what is before the colon",
        )
    refuse_unreadable(operand)
    from rosetta.compare.listener import loaded_tensors
    from rosetta.model import open_model
    from rosetta.runtimes.torch import (
        prompt_ids,
        run_facts,
        run_stages,
    )  # imports torch: not before it is needed
    from rosetta.runtimes.trace import write_trace

    with Terminal(quiet=quiet) as listener:
        model = open_model(operand)
        listener.loaded(model.container.label, loaded_tensors(model))
        ids = prompt_ids(model.container, text) if given is None else list(given)
        facts = run_facts(model, operand, None if given else text, ids, dtype.value)
        count = write_trace(Path(output), run_stages(model, ids, device.value, dtype.value), facts)
    if not quiet:
        show(f"{output}: {count} stages of {len(ids)} tokens\n")
