"""llama.cpp's own run of a file, in this process: its graph drawn, then run with every stage handed on.

Whoever calls this stands to be aborted by ggml: it belongs into a child process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rosetta.runtimes.llamacpp.context import Context
from rosetta.runtimes.llamacpp.drawing import Drawing
from rosetta.runtimes.llamacpp.library import Ggml
from rosetta.runtimes.observed.capture import Facts, Float32
from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.operations import made_of_weights
from rosetta.runtimes.observed.placing import Placement, place
from rosetta.runtimes.observed.reading import Receive, StageReader, probe_length, rope_order


class Session:
    """One file, loaded, its nodes observed.

    Args:
        path: of the file.
        tokens: how many a run may have.
        options: see `options.py`.
        facts: what is learned is written here.

    Raises:
        LoadError: llama.cpp does not take it.
    """

    def __init__(self, path: Path, tokens: int, options: Mapping[str, Any], facts: Facts) -> None:
        self.facts = facts
        self.calls: Drawing | Reading | None = None
        self.error: BaseException | None = None
        self.context = Context(path, tokens + 1, options, facts, self._called)
        self.ggml = Ggml()

    def _called(self, tensor: int, ask: bool, _: Any) -> bool:
        """ggml's callback; an exception in it would be lost, so it is kept and raised after the run."""
        try:
            if self.calls is None or self.error is not None:
                return not ask
            return self.calls.called(ctypes.cast(tensor, self.ggml.pointer), ask)
        except BaseException as error:  # kept, and raised by `_decode`
            self.error = error
            return not ask

    def prepare(self, ids: Sequence[int]) -> list[str]:
        """Draw the graph over a few tokens, and find the stages in it.

        Returns:
            The stages, in order.
        """
        self._draw([ids[0]] * probe_length(len(ids)))
        return [tap.stage for tap in self.placement.taps]

    def _draw(self, ids: Sequence[int]) -> None:
        self.probed, drawing = len(ids), Drawing(self.ggml)
        self._decode(ids, drawing)
        self.graph = Graph(drawing.nodes, len(drawing.nodes) - 1)
        placed = place(self.graph, self.probed)
        self.placement: Placement
        self.placement, self.facts.operations = made_of_weights(self.graph, placed)
        self.facts.skipped = dict(self.placement.skipped)
        self.facts.rope = rope_order(self.placement)
        self.facts.rotary_dimensions = drawing.rotary_dimensions

    def run(self, ids: Sequence[int], receive: Receive) -> None:
        """One run; every stage is handed on, and replaced by what `receive` returns.

        A long prompt may take another graph than a few tokens: from where that shows nothing is read any more, the
        graph is drawn again over as many tokens but one, and what was not yet handed on is, in a second run.
        """
        given: set[str] = set()

        def once(stage: str, value: Float32) -> NDArray[Any] | None:
            if stage in given:
                return replaced.get(stage)
            given.add(stage)
            new = receive(stage, value)
            if new is not None:
                replaced[stage] = new
            return new

        replaced: dict[str, NDArray[Any]] = {}
        if not self._read(ids, once):
            self._draw([ids[0]] * (len(ids) - 1))
            self._read(ids, once)

    def _read(self, ids: Sequence[int], receive: Receive) -> bool:
        """Whether the run went as the graph says to its end."""
        dims = {node.key: node.dims for node in self.graph.nodes if node.key is not None}
        reader = StageReader(self.graph, self.placement, dims.get, self.probed, len(ids), receive, self.facts)
        reading = Reading(self.ggml, reader, [node.key for node in self.graph.nodes if node.key is not None])
        self._decode(ids, reading)
        if reading.lost and self.probed != len(ids) - 1 and len(ids) > 2:
            return False
        reader.finish()
        return True

    def _decode(self, ids: Sequence[int], calls: Drawing | Reading) -> None:
        self.context.clear()
        self.calls, self.error = calls, None
        try:
            self.context.decode(ids)
        finally:
            self.calls = None
            if self.error is not None:
                raise self.error


class Reading:
    """Reads the nodes that are asked for.

    Args:
        ggml: the library.
        reader: takes their values.
        expected: keys of all nodes, in order.
    """

    def __init__(self, ggml: Ggml, reader: StageReader, expected: Sequence[Hashable]) -> None:
        self.ggml, self.reader, self.expected = ggml, reader, expected
        self.asked, self.lost = 0, False
        self.key: Hashable = None

    def called(self, tensor: Any, ask: bool) -> bool:
        if ask:
            self.key = (self.asked, self.ggml.operation(tensor), tensor.contents.name)
            self.lost |= self.asked >= len(self.expected) or self.expected[self.asked] != self.key
            self.asked += 1
            return not self.lost and self.key in self.reader.taps
        value = self.ggml.read(tensor)
        if value is not None:
            new = self.reader.read(self.key, value)
            if new is not None:
                self.ggml.write(tensor, new)
        return True
