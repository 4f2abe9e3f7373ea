"""Reads stages out of a foreign run as its nodes are computed, and writes them back where they are to be replaced."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.runtimes.observed.capture import Facts, Float32, float32
from rosetta.runtimes.observed.graph import Graph
from rosetta.runtimes.observed.placing import Placement
from rosetta.runtimes.observed.taps import NotPlaced, Tap, canonical, overwritten

Dims = tuple[int, ...]
Receive = Callable[[str, Float32], NDArray[Any] | None]


class StageReader:
    """One run whose stages are known, and the dims of whose nodes over another number of tokens.

    Args:
        graph: of the run.
        placement: the stages in it.
        dims: of a node, by its key, over another number of tokens; None where it has no counterpart.
        probed: that number.
        tokens: how many this run has.
        receive: takes stage and values; what it returns takes their place, None: nothing does.
        facts: what could not be read is written here.
    """

    def __init__(
        self,
        graph: Graph,
        placement: Placement,
        dims: Callable[[Hashable], Dims | None],
        probed: int,
        tokens: int,
        receive: Receive,
        facts: Facts,
    ) -> None:
        self.graph, self.dims, self.probed, self.tokens = graph, dims, probed, tokens
        self.receive, self.facts = receive, facts
        self.taps: dict[Hashable, list[Tap]] = {}
        for tap in placement.taps:
            for node in tap.nodes:
                self.taps.setdefault(graph[node].key, []).append(tap)
        self.parts: dict[str, dict[Hashable, NDArray[Any]]] = {}
        self.given: set[str] = set()

    def read(self, key: Hashable, value: NDArray[Any]) -> NDArray[Any] | None:
        """Hand on the stages that a node holds.

        Args:
            key: of the node.
            value: what it holds, row-major.

        Returns:
            What it is to hold; None: what it holds.
        """
        changed = None
        for tap in self.taps[key]:
            if len(tap.nodes) > 1:
                self._part(tap, key, value)
                continue
            dims = self.dims(key)
            if dims is None:
                self.facts.skipped[tap.stage] = "which of its dims the tokens are cannot be told"
                continue
            try:
                stage = float32(canonical(tap, value, dims, self.probed, self.tokens))
                new = self._give(tap.stage, stage if tap.factor == 1 else float32(stage * tap.factor))
                if new is not None:
                    new = new if tap.factor == 1 else new / tap.factor
                    value = changed = overwritten(tap, value, new, dims, self.probed, self.tokens)
            except NotPlaced as reason:
                self.facts.skipped[tap.stage] = str(reason)
        return changed

    def _part(self, tap: Tap, key: Hashable, value: NDArray[Any]) -> None:
        """Two nodes that are one stage: experts and their weights, or a softmax and what a sink leaves of it."""
        parts = self.parts.setdefault(tap.stage, {})
        parts[key] = np.array(value, dtype=np.float32)
        if len(parts) < len(tap.nodes):
            return
        first, second = (parts[self.graph[node].key] for node in tap.nodes)
        if tap.form == "scores":
            value = canonical(tap, first * second, first.shape, self.tokens, self.tokens)
            self._give(tap.stage, float32(value))
            return
        experts, weights = first.reshape(self.tokens, -1), second.reshape(self.tokens, -1) * tap.factor
        if experts.shape == weights.shape:
            self._give(tap.stage, float32(np.stack([experts, weights], -1)))

    def _give(self, stage: str, value: Float32) -> NDArray[Any] | None:
        self.given.add(stage)
        return self.receive(stage, value)

    def finish(self) -> None:
        """Say of every stage that was expected and did not come that it did not."""
        for taps in self.taps.values():
            for tap in taps:
                if tap.stage not in self.given:
                    self.facts.skipped.setdefault(
                        tap.stage, "this run did not compute it as the one before it did"
                    )


def rope_order(placement: Placement) -> str | None:
    """`interleaved` or `split_half`, by the first rotated stage."""
    for tap in placement.taps:
        if tap.stage.endswith("_rope") and tap.interleaved is not None:
            return "interleaved" if tap.interleaved else "split_half"
    return None


def probe_length(tokens: int) -> int:
    """How many tokens a probe has: others than the run, so that the tokens' axis shows; few, to be soon done; not
    one, where many runtimes take another way.
    """
    return 3 if tokens > 3 else tokens + 1
