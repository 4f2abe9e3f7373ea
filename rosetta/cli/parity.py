"""`rosetta parity LEFT [RIGHT…]`: do they say the same? Parses, calls, prints, exits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.options import Believed, Reference, RuntimeOptions, given_runtime_options, refuse_unreadable
from rosetta.cli.program import in_one_sentence
from rosetta.cli.run_facts import run_facts, started_now
from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show, width
from rosetta.errors import UsageError

MOST = 4096  # tokens that are generated
EXIT_CODES = {"match": 0, "near_tie": 0, "fault": 1, "inconclusive": 3}


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("parity", short_help="Do several runtimes say the same?")(parity)


def parity(
    left: Annotated[
        str, typer.Argument(metavar="LEFT", help="A model; llamacpp: or transformers: before it.")
    ],
    right: Annotated[
        list[str] | None, typer.Argument(metavar="[RIGHT]...", help="Those to hold it to, and to believe.")
    ] = None,
    *,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='A prompt a line: text, or {"prompt": TEXT} with "ids", "expected_text", "expected_ids".  '
            "[default: four built-in ones]",
        ),
    ] = None,
    generate: Annotated[
        int, typer.Option(min=1, max=MOST, metavar="N", help="Tokens that each side says.")
    ] = 32,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask each prompt as a question, by each side's own chat template.")
    ] = False,
    reference: Believed = Reference.right,
    runtime_option: RuntimeOptions = None,
    assert_match: Annotated[
        bool, typer.Option("--assert-match", help="Exit 1 on a fault, 3 when nothing could be judged.")
    ] = False,
    json: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="Write it as JSON. - is stdout, and the text goes to stderr then."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
) -> None:
    """Let a model, in one runtime or several, go on with some prompts, always
    with its likeliest token, and hold what each says to the others and to
    itself computed all at once. Where two part, say whether that was a near
    tie, which proves neither wrong, or which stage is at fault.

    \b
    Examples:
      rosetta parity hf-folder model.gguf
      rosetta parity model.gguf llamacpp:model.gguf transformers:hf-folder --assert-match
      rosetta parity llamacpp:model.gguf --prompts prompts.jsonl --chat --json -
    """
    started = started_now()
    if json is not None:
        check_target(json)
    from rosetta.parity.engine import parity as compared  # imports torch: not at the program's start
    from rosetta.parity.engine import refused
    from rosetta.parity.options import ParityOptions
    from rosetta.parity.prompts import BUILT_IN, prompts_of
    from rosetta.parity.text import render
    from rosetta.report.report import Assertion

    options = ParityOptions(
        generate=generate,
        chat=chat,
        believes_left=reference is Reference.left,
        runtime_options=given_runtime_options(runtime_option),
    )
    if options.believes_left and not right:
        raise UsageError("--reference chooses between two sides", remedy="name another one")
    operands = [left, *(right or [])]
    try:
        refuse_unreadable(*operands)
        texts = BUILT_IN if prompts is None else prompts_of(prompts)
        with Terminal(quiet=quiet) as listener:
            found = compared(operands, texts, options, listener)
    except Exception as error:
        if json is not None:  # yesterday's must not stand there
            refusal = refused(in_one_sentence(error), options).model_copy(update={"run": run_facts(started)})
            deliver(refusal.to_json(), json)
        raise
    code = EXIT_CODES[found.verdict] if assert_match else 0
    asserted = Assertion(asserted=assert_match, passed=code == 0 if assert_match else None, exit_code=code)
    found = found.model_copy(update={"assertion": asserted, "run": run_facts(started)})
    to_stderr = json == STDOUT
    show(render(found, width(to_stderr=to_stderr), quiet=quiet), to_stderr=to_stderr)
    if json is not None:
        deliver(found.to_json(), json)
    raise typer.Exit(code)
