"""The forward pass of one model as a list of named stages: what is computed, from what, reading which tensors.

Which tensors exist, with which dims, and which operation reads them is asked of it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from rosetta.ops.edit import Edit
from rosetta.ops.op import Op, Settings

TOKENS = "tokens"
"""The one stage that is given: the token ids, int64 [T]."""


@dataclass(frozen=True)
class Stage:
    """One stage as an architecture lists it.

    Args:
        name: without its layer: `attn_norm`.
        op: what is computed.
        inputs: stages that it is computed from: of the same layer by such a name, of elsewhere by their full name.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """One stage of a graph.

    Args:
        name: full name, `layers.3.attn_norm`, `logits`: the same string in the trace file, the report and the page.
        stage: the name without its layer.
        layer: counted from 0; None outside the layers.
        op: what is computed.
        inputs: full names of the stages that it is computed from.
        required, optional: the tensors that it reads, with their dims, by full canonical name.
    """

    name: str
    stage: str
    layer: int | None
    op: Op
    inputs: tuple[str, ...]
    required: Mapping[str, tuple[int, ...]]
    optional: Mapping[str, tuple[int, ...]]

    @property
    def tensors(self) -> Iterator[str]:
        """Full canonical names of the tensors that it reads, the required ones first."""
        yield from self.required
        yield from self.optional

    @property
    def keys(self) -> tuple[str, ...]:
        """Config keys that it reads."""
        return self.op.keys


class Graph:
    """The stages of one model, in the order in which they are computed.

    Args:
        nodes: the stages.
        settings_tensors: dims of the tensors that hold settings, by canonical name.
    """

    def __init__(self, nodes: Iterable[Node], settings_tensors: Mapping[str, tuple[int, ...]]) -> None:
        self.nodes = tuple(nodes)
        self.settings_tensors = settings_tensors
        self._by_name = {node.name: node for node in self.nodes}

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def edited(self, edit: Edit) -> Graph:
        """These stages, some of them computed otherwise, from the same inputs and tensors."""
        nodes = (replace(node, op=edit.at(node.stage, node.layer, node.op)) for node in self.nodes)
        return Graph(nodes, self.settings_tensors)

    def get(self, name: str) -> Node | None:
        """The stage of a full name, or None."""
        return self._by_name.get(name)

    @cached_property
    def dims(self) -> dict[str, tuple[int, ...]]:
        """Row-major dims that the config demands of every tensor that the model can have; -1 where any will do."""
        dims = dict(self.settings_tensors)
        for node in self.nodes:
            dims |= node.required
            dims |= node.optional
        return dims

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """The stages that read each tensor, in order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.tensors:
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def keys(self) -> frozenset[str]:
        """Config keys that any operation reads."""
        return frozenset(key for node in self.nodes for key in node.keys)

    @cached_property
    def handed_on(self) -> frozenset[str]:
        """Stages that another layer, or the head, is computed from: the results of layers."""
        return frozenset(
            name
            for node in self.nodes
            for name in node.inputs
            if name in self and self[name].layer != node.layer
        )

    @cached_property
    def last_reader(self) -> dict[str, str]:
        """For each stage that another is computed from, the last one that is."""
        return {name: node.name for node in self.nodes for name in node.inputs}


SettingsOf = Callable[[int | None], Settings]


def build_graph(
    before: Iterable[Stage],
    layers: Iterable[Iterable[Stage]],
    after: Iterable[Stage],
    settings_of: SettingsOf,
) -> Graph:
    """The graph of the stages that an architecture lists.

    Args:
        before, after: the stages outside the layers.
        layers: those of each layer.
        settings_of: the settings of a layer, None for what is outside.

    Raises:
        ValueError: a stage is computed from one that does not come before it, or has a name that another one has: the
            architecture's mistake, never a file's.
    """
    nodes: list[Node] = []
    named = {TOKENS}
    settings_tensors: dict[str, tuple[int, ...]] = {}

    def add(stages: Iterable[Stage], layer: int | None) -> None:
        stages, c = list(stages), settings_of(layer)
        prefix, own = ("", "") if layer is None else (f"layers.{layer}.", f"blk.{layer}.")
        local = {stage.name for stage in stages}
        for stage in stages:
            read = stage.op.tensors(c)
            settings_tensors.update(read.settings)
            node = Node(
                prefix + stage.name,
                stage.name,
                layer,
                stage.op,
                tuple(prefix + name if name in local else name for name in stage.inputs),
                {own + name: dims for name, dims in read.required.items()},
                {own + name: dims for name, dims in read.optional.items()},
            )
            if unknown := [name for name in node.inputs if name not in named]:
                raise ValueError(
                    f"{node.name} is computed from {unknown[0]}, but no stage before it is called so"
                )
            if node.name in named:
                raise ValueError(f"two stages are called {node.name}")
            named.add(node.name)
            nodes.append(node)

    add(before, None)
    for n, stages in enumerate(layers):
        add(stages, n)
    add(after, None)
    return Graph(nodes, settings_tensors)
