"""The transformers runtime: a model folder run by transformers itself, its stages observed as they are computed."""

from __future__ import annotations

import importlib.util
import inspect
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rosetta.errors import UsageError
from rosetta.runtimes.decoding import RuntimeFailed
from rosetta.runtimes.observed.capture import Facts, Failure, Float32, Overwrite, Stage, by_layer

OPTIONS = {"dtype": ("float32", "float64", "bfloat16", "float16")}
"""What may be set -> its values."""


class TransformersCapture:
    """One run of a model by transformers; iterate for its stages, then read the facts.

    Args:
        path: a model folder, or a GGUF file that transformers' own loader reads.
        ids: tokens.
        options: see `OPTIONS`.
        overwrite: stage -> values to go on with in its place. What the iteration gives is what was computed.

    Raises:
        UsageError: transformers is not installed, or has no such option.
    """

    def __init__(
        self,
        path: Path,
        ids: Sequence[int],
        options: Mapping[str, Any] | None = None,
        overwrite: Overwrite | None = None,
    ) -> None:
        refuse_missing()
        self.path, self.ids = Path(path), list(ids)
        self.options, self.overwrite = checked(options or {}), overwrite or {}
        self.facts = Facts("transformers")

    def __iter__(self) -> Iterator[Stage]:
        """Stages in order; a run that fails ends early, and `facts.failure` says why."""
        handed: queue.Queue[Stage | list[str] | None] = queue.Queue(maxsize=1)
        stopped = threading.Event()

        def put(item: Stage | list[str] | None) -> None:
            while not stopped.is_set():
                try:
                    return handed.put(item, timeout=0.1)
                except queue.Full:
                    continue
            raise _Stopped

        thread = threading.Thread(target=self._run, args=(put,), daemon=True)
        thread.start()
        try:
            expected = handed.get()
            if isinstance(expected, list):
                yield from by_layer(iter(handed.get, None), expected)  # type: ignore[arg-type]
        finally:
            stopped.set()
            thread.join()

    def _run(self, put: Any) -> None:
        from rosetta.runtimes.transformers.session import Session, load_failure, quiet

        with quiet() as said:
            try:
                session = Session(self.path, self.options, self.facts)

                def receive(stage: str, value: Float32) -> NDArray[Any] | None:
                    put((stage, value))
                    return self.overwrite.get(stage)

                put(session.prepare(self.ids))
                session.run(self.ids, receive)
            except _Stopped:
                return
            except Exception as error:  # whatever a foreign model's code may raise is a fact about it
                failure = load_failure(error)
                self.facts.failure = Failure(failure.kind, failure.message, said.getvalue()[-2000:])
        try:
            put(None)
        except _Stopped:
            return


class _Stopped(Exception):
    """Nobody asks for more stages."""


class TransformersDecoder:
    """A model that transformers goes on with, token by token; see `runtimes.decoding.Decoder`.

    Args:
        path: a model folder, or a GGUF file that transformers' own loader reads.
        tokens: how many there may be.
        options: see `OPTIONS`.

    Raises:
        UsageError: transformers is not installed, or has no such option.
        RuntimeFailed: it does not load the model.
    """

    def __init__(self, path: Path, tokens: int, options: Mapping[str, Any] | None = None) -> None:
        refuse_missing()
        self.facts, given = Facts("transformers"), checked(options or {})
        from rosetta.runtimes.transformers.session import load_failure, loaded, quiet

        with quiet():
            try:
                self.model = loaded(path, given, self.facts)
            except Exception as error:  # whatever a foreign model's code may raise is a fact about it
                raise RuntimeFailed(load_failure(error)) from error
        taken = inspect.signature(self.model.forward).parameters
        self._argument = next((name for name in CACHES if name in taken), CACHES[0])
        self.restart()

    def restart(self) -> None:
        """Forget the tokens so far."""
        self._cache: Any = None

    def feed(self, ids: Sequence[int], last: int = 1) -> Float32:
        """Compute the next tokens; logits of the last of them, [last, V]."""
        import torch

        from rosetta.runtimes.transformers.session import quiet

        given = {} if self._cache is None else {self._argument: self._cache}
        try:
            with quiet(), torch.no_grad():
                output = self.model(input_ids=torch.tensor([list(ids)]), use_cache=True, **given)
        except Exception as error:
            raise RuntimeFailed(Failure("run", f"{type(error).__name__}: {error}"[:500])) from error
        self._cache = next(
            (found for name in CACHES if (found := getattr(output, name, None)) is not None), None
        )
        logits: Float32 = output.logits[0, -last:].float().numpy()
        return logits

    def close(self) -> None:
        """Let go of the model."""
        self.model, self._cache = None, None


CACHES = ("cache", "past_key_values", "cache_params")
"""What models call what they remember, as an argument and in their output; in 5.24 the first, before it the others."""


def refuse_missing() -> None:
    """Raises:
    UsageError: transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UsageError("transformers is not installed", remedy="pip install 'rosetta-trace[transformers]'")


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that there are, with values that they have.

    Raises:
        UsageError: one is none.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise UsageError(
                f"transformers has no runtime option '{name}'", remedy=f"give one of {', '.join(OPTIONS)}"
            )
        if value not in OPTIONS[name]:
            raise UsageError(
                f"the runtime option {name} is '{value}'", remedy=f"give one of {', '.join(OPTIONS[name])}"
            )
    return dict(options)


capture, decoder = TransformersCapture, TransformersDecoder
