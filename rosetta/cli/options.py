"""The options that several commands share, and what their values mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rosetta.compare.options import AUTO, DEFAULT_PROMPT, DEFAULT_THRESHOLD, LIVE, TRACE, Options, live
from rosetta.errors import UsageError

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


Left = Annotated[str, typer.Argument(metavar="LEFT", help="A file or folder that holds a model.")]
Right = Annotated[str, typer.Argument(metavar="RIGHT", help="The one to compare it with, and to believe.")]
Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="What to run; auto: the shortest tokens that show every difference in config.  "
        f"[default: {DEFAULT_PROMPT}]",
    ),
]
PromptFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Read the prompt; a last line break is dropped.")
]
Tokens = Annotated[str | None, typer.Option(metavar="17,10,…", help="Token IDs to run instead of a prompt.")]
Believed = Annotated[Reference, typer.Option(help="The side that is believed.")]
OnDevice = Annotated[Device, typer.Option(help="Where to compute.")]
RuntimeOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime-option",
        metavar="KEY=VALUE",
        help="Of llamacpp: flash_attn=on, kv=f16, repack=on, gpu_layers=99, threads=4, fusion=on; of transformers: "
        "dtype=bfloat16.",
    ),
]
RunAs = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="ARCH",
        help="Run a model that declares an architecture that rosetta does not run as this one.",
    ),
]
InPrecision = Annotated[Precision, typer.Option(help="Precision to compute in.")]


def given_options(
    *,
    prompt: str | None,
    prompt_file: Path | None,
    tokens: str | None,
    threshold: float | None,
    reference: Reference,
    devices: tuple[Device, Device],
    dtype: Precision,
) -> Options:
    """What a comparison is asked to do, of the options that every comparing command has.

    Args:
        prompt, prompt_file, tokens, threshold, reference, dtype: as given.
        devices: of the left side and of the right.
    """
    left, right = devices
    return Options(
        prompt=given_prompt(prompt, prompt_file, tokens),
        tokens=given_tokens(tokens),
        threshold=DEFAULT_THRESHOLD if threshold is None else _threshold(threshold),
        threshold_is_explicit=threshold is not None,
        reference=reference.value,
        left_device=left.value,
        right_device=right.value,
        dtype=dtype.value,
    )


def refuse_unreadable(*operands: str) -> None:
    """Open each file or folder and close it again: what cannot be read is refused before torch takes its second."""
    from rosetta.containers import open_container, open_operand
    from rosetta.containers.adapters import base_of
    from rosetta.sources import located_here, names_place

    for operand in operands:
        if operand.startswith(TRACE):
            continue
        run = live(operand)
        if run is not None:
            open_container(located_here(run[1], run[0])).close()
            continue
        if names_place(base_of(operand)):  # what is far away is opened once
            continue
        prefix, colon, path = operand.partition(":")
        if (
            colon
            and len(prefix) > 1
            and prefix.isidentifier()
            and Path(path).exists()
            and not Path(operand).exists()
        ):
            *others, last = (path, f"{TRACE}FILE", *(f"{name}:PATH" for name in LIVE))
            raise UsageError(
                f"no runtime is called {prefix}",
                file=operand,
                remedy=f"give {', '.join(others)} or {last}",
            )
        open_operand(operand).close()


def given_runtime_options(given: list[str] | None) -> dict[str, str]:
    """The settings that `--runtime-option` lists."""
    found = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError("--runtime-option is KEY=VALUE, such as kv=f16", where=repr(text[:80]))
        found[key] = value
    return found


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
        raise UsageError(
            "is not UTF-8 text",
            file=file,
            where=f"byte {error.start}",
            remedy="save it as UTF-8; --tokens runs any ids",
        ) from error
    # As llama.cpp's --file: editors end a file with a line break that is no part of the prompt.
    return text.removesuffix("\n").removesuffix("\r")


def asked_of(arguments: Mapping[str, Any]) -> tuple[str | None, tuple[int, ...]]:
    """The prompt, or the token ids, that a command's arguments name; neither where they cannot be understood."""
    if "prompt" not in arguments:
        return None, ()
    prompt, file, tokens = (arguments.get(name) for name in ("prompt", "prompt_file", "tokens"))
    try:
        text, ids = given_prompt(prompt, file, tokens), given_tokens(tokens)
    except UsageError:  # it is what the error is about
        return None, ()
    return (None, ids) if ids is not None else (None if text == AUTO else text, ())


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


def _threshold(threshold: float) -> float:
    if not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(f"--threshold is a number from 0 on, not {threshold}")
    return threshold
