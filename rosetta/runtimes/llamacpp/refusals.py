"""What llama.cpp's words for a file that it does not take mean, where they do not say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rosetta.containers import open_container
from rosetta.errors import RosettaError
from rosetta.runtimes.observed.capture import Failure
from rosetta.tokenizer.name_of_phi3 import lacking_of_phi3

OF_VOCABULARY = "error loading model vocabulary: unordered_map::at"


def in_words(failure: Failure, path: Path) -> Failure:
    """A failure with what it comes from, where that is known; else as it is."""
    if OF_VOCABULARY not in failure.message:
        return failure
    try:
        container = open_container(path)
    except RosettaError:
        return failure
    try:
        name, tokens = (container.metadata.get(key) for key in ("general.name", "tokenizer.ggml.tokens"))
    finally:
        container.close()
    lacking = lacking_of_phi3(name, set(tokens) if isinstance(tokens, list | tuple) else ())
    if not lacking:
        return failure
    said = f"its general.name is {name!r:.60}, and of such a file it looks in the vocabulary for {', '.join(lacking)}"
    return replace(failure, message=f"{failure.message} ({said}: give the model another name)")
