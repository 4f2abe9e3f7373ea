"""`rosetta tokenize MODEL`: the token ids that a model's own tokenizer gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rosetta.cli.terminal import STDOUT, check_target, deliver, show
from rosetta.errors import one_line

if TYPE_CHECKING:
    from rosetta.tokenizer.tokenizer import Tokenizer


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("tokenize", short_help="Turn text into a model's token ids.")(tokenize)


def tokenize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file or folder with a tokenizer.")],
    *,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="The text.")] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help='Texts, a line of JSON each: {"prompt": TEXT}.')
    ] = None,
    no_special: Annotated[
        bool,
        typer.Option("--no-special", help="Neither add BOS and EOS nor look for control tokens in the text."),
    ] = False,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write it as JSON. - is stdout, and nothing else is then."),
    ] = None,
) -> None:
    """Turn text into token ids with the tokenizer that a file or folder embeds, as its
    own runtime does it. Files that hold nothing but a vocabulary will do.

    \b
    Examples:
      rosetta tokenize model.gguf --prompt "2+2="
      rosetta tokenize hf-folder --prompts texts.jsonl --no-special --json -
    """
    if json is not None:
        check_target(json)
    from rosetta.tokenizer.loading import open_tokenizer  # imports the tokenizers library
    from rosetta.tokenizer.prompts import encoded_prompts, to_json, to_text

    texts = encoded_prompts(prompt, prompts)
    tokenizer = open_tokenizer(model)
    _say(model, tokenizer)
    encoded = [text.encoded(tokenizer, special=not no_special) for text in texts]
    if json != STDOUT:
        show(to_text(encoded))
    if json is not None:
        deliver(to_json(encoded), json)


def _say(model: str, tokenizer: Tokenizer) -> None:
    """What is wrong or assumed with the tokenizer, a line each."""
    lines = [
        *(f"{finding.message}: {finding.recommendation}" for finding in tokenizer.findings),
        *tokenizer.notes,
    ]
    show("".join(one_line(f"{model}: {line}") + "\n" for line in lines), to_stderr=True)
