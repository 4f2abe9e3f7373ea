"""The transformers runtime: a model folder run by transformers itself, its stages observed as they are computed."""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rosetta.errors import UsageError
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
        if importlib.util.find_spec("transformers") is None:
            raise UsageError(
                "transformers is not installed", remedy="pip install 'rosetta-trace[transformers]'"
            )
        self.path, self.ids = Path(path), list(ids)
        self.options, self.overwrite = dict(options or {}), overwrite or {}
        unknown = sorted(set(self.options) - set(OPTIONS))
        if unknown:
            raise UsageError(
                f"transformers has no runtime option '{unknown[0]}'",
                remedy=f"give one of {', '.join(OPTIONS)}",
            )
        for name, value in self.options.items():
            if value not in OPTIONS[name]:
                raise UsageError(
                    f"the runtime option {name} is '{value}'",
                    remedy=f"give one of {', '.join(OPTIONS[name])}",
                )
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


capture = TransformersCapture
