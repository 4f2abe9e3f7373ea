"""What goes on with a text: a model that remembers the tokens it was given, whichever runtime it is in.

A runtime is a package beside this module whose `decoder(path, tokens, options)` makes one.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rosetta.runtimes.observed.capture import Facts, Failure, Float32


class Decoder(Protocol):
    """A model and what it remembers of the tokens so far: keys and values, recurrent state.

    Letters: V = tokens of its vocabulary.
    """

    facts: Facts

    def restart(self) -> None:
        """Forget the tokens so far."""
        ...

    def feed(self, ids: Sequence[int], last: int = 1) -> Float32:
        """Compute the next tokens, all of them at once.

        Args:
            ids: of the tokens.
            last: of how many of them the logits are wanted, from the end.

        Returns:
            Logits, [last, V].

        Raises:
            RuntimeFailed: the runtime failed.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class RuntimeFailed(Exception):
    """A runtime does not run a model; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def decoder(runtime: str, path: Path, tokens: int, options: Mapping[str, Any]) -> Decoder:
    """A model in a runtime, with nothing remembered yet.

    Args:
        runtime: `torch`, `llamacpp`, `transformers`.
        path: the model.
        tokens: how many there may be.
        options: of the runtime.

    Raises:
        UsageError: the runtime is not installed, or has no such option.
        RuntimeFailed: it does not run the model.
    """
    made: Decoder = importlib.import_module(f"rosetta.runtimes.{runtime}").decoder(path, tokens, options)
    return made
