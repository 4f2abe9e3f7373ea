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

Receive = Callable[[str, Float32], NDArray[Any] | None]


class StageReader:
    """One run over some tokens, whose graph was drawn over another number of them.

    Args:
        graph: as drawn.
        placement: the stages in it.
        probed: how many tokens it was drawn with.
        tokens: how many this run has.
        receive: takes stage and values; what it returns takes their place, None: nothing does.
        facts: what could not be read is written here.
    """

    def __init__(
        self, graph: Graph, placement: Placement, probed: int, tokens: int, receive: Receive, facts: Facts
    ) -> None:
        self.graph, self.probed, self.tokens = graph, probed, tokens
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
            dims = self.graph[tap.nodes[0]].dims
            try:
                stage = float32(canonical(tap, value, dims, self.probed, self.tokens))
                new = self._give(tap.stage, stage)
                if new is not None:
                    value = changed = overwritten(tap, value, new, dims, self.probed, self.tokens)
            except NotPlaced as reason:
                self.facts.skipped[tap.stage] = str(reason)
        return changed

    def _part(self, tap: Tap, key: Hashable, value: NDArray[Any]) -> None:
        """A routing: experts and weights are two nodes, and one stage."""
        parts = self.parts.setdefault(tap.stage, {})
        parts[key] = np.asarray(value, dtype=np.float32).reshape(self.tokens, -1)
        if len(parts) == len(tap.nodes):
            experts, weights = (parts[self.graph[node].key] for node in tap.nodes)
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
    """How many tokens the graph is drawn with: others than the run has, so that the tokens' axis shows; not one,
    where many runtimes take another way.
    """
    return tokens - 1 if tokens > 2 else tokens + 1
