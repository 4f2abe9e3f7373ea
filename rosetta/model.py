"""Container + Architecture -> Model: config with GGUF keys, weights with GGUF names, decoded when asked for.

Everything that legitimately differs between containers is brought to canonical form here, before anything
is compared: names, fused and Conv1D tensors, the order of rotary rows, a tied head.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from rosetta import blocks
from rosetta.architectures import (
    Architecture,
    all_architectures,
    architecture_of,
    find_architecture,
    not_run,
)
from rosetta.canonical_weights import adapted_weights, canonical_weights, idle_tensors, leave_out
from rosetta.config import LARGEST_BLOCK_COUNT, Config, Value, read_config, rope_scaling_from_tensors
from rosetta.containers import open_operand
from rosetta.containers.adapters import AdaptedContainer
from rosetta.containers.container import Container, Setting, TensorEntry
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.graph import Graph
from rosetta.index_entries import hold_to_index
from rosetta.layer_settings import settings_of
from rosetta.names import FOREIGN_LAYER, canonical_names
from rosetta.ops.edit import Edit
from rosetta.ops.indexer import dense_count
from rosetta.ops.op import Settings
from rosetta.rope_scaling import RopeScaling
from rosetta.setting_values import PerLayer
from rosetta.tensor_factors import factors_of, multiplied
from rosetta.weight import Weight

Patch = Callable[[Weight | None], Weight | None]
"""What a repair makes of a weight; it is given None where there is none of that name, and may leave it so."""
FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""Tensors that hold rope scaling."""
NO_NUMBERS = frozenset({"BOOL", "I64"})
"""Dtypes of what counts or marks something, by safetensors' names."""


@dataclass(frozen=True)
class Model:
    """A model in canonical form.

    Args:
        container: the open file or folder.
        architecture: what it holds.
        config: canonical settings by GGUF key.
        weights: canonical weights by GGUF name; a tied head is the embedding under the head's name.
        unknown: tensors of the file that the architecture does not know.
        overrides: settings that repairs put in place of the file's own.
        patches: what repairs make of weights, by canonical name.
        unheeded: settings that the file states and the architecture does not compute.
        operations: what repairs compute otherwise than the architecture does, one after another.
    """

    container: Container
    architecture: Architecture
    config: Config
    weights: Mapping[str, Weight]
    unknown: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Patch] = field(default_factory=dict)
    unheeded: tuple[Setting, ...] = ()
    operations: tuple[Edit, ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.config[key].value

    @property
    def block_count(self) -> int:
        return int(self["block_count"])

    @property
    def position_count(self) -> float:
        """Tokens that the table of learned positions has rows for; infinite where there is no table."""
        table = self.weights.get("position_embd.weight") if self.architecture.learned_positions else None
        return table.dims[0] if table is not None and table.dims else math.inf

    @property
    def dense_count(self) -> float:
        """Tokens up to which sparse attention sees all, which is how it is run; infinite where it is not sparse."""
        return dense_count({key: setting.value for key, setting in self.config.items()})

    def settings_of(self, layer: int | None) -> Settings:
        """The settings of a layer, or of what stands outside the layers."""
        if layer not in self._settings:
            self._settings[layer] = (
                settings_of(self.config, layer, self.container.path)
                if self._by_layer
                else self._settings[None]
            )
        return self._settings[layer]

    @cached_property
    def _settings(self) -> dict[int | None, Settings]:
        return {None: settings_of(self.config, None, self.container.path)}

    @cached_property
    def _by_layer(self) -> bool:
        return any(isinstance(value.value, PerLayer) for value in self.config.values())

    @property
    def graph(self) -> Graph:
        """The forward pass."""
        return self.graph_of(self.block_count)

    def graph_of(self, layers: int) -> Graph:
        """The forward pass of as many layers, though the model may have fewer."""
        if layers not in self._graphs:
            graph = self.architecture.graph(self.settings_of, layers)
            self._graphs[layers] = reduce(Graph.edited, self.operations, graph)
        return self._graphs[layers]

    @cached_property
    def _graphs(self) -> dict[int, Graph]:
        return {}

    @property
    def expected_dims(self) -> dict[str, tuple[int, ...]]:
        """Row-major dims that the config demands of every tensor that the architecture can have."""
        return self.graph.dims

    def mismatch(self, name: str) -> tuple[int, ...] | None:
        """The dims that the config demands of a weight where the file's differ, else None."""
        expected, weight = self.expected_dims.get(name), self.weights.get(name)
        if expected is None or weight is None:
            return None
        fits = len(expected) == len(weight.dims) and all(
            want in (-1, got) for want, got in zip(expected, weight.dims, strict=True)
        )
        return None if fits else expected

    def contradiction(self, name: str) -> str | None:
        """How the file contradicts itself over a weight: dims against config, bytes against dtype; None if not."""
        weight, wanted = self.weights.get(name), self.mismatch(name)
        if weight is None:
            return None
        if wanted is not None:
            return f"{name} is stored as {list(weight.dims)}, the config says {list(wanted)}"
        return misfit(weight)

    def repaired(
        self, overrides: Mapping[str, Any] | None = None, patches: Mapping[str, Patch] | None = None
    ) -> Model:
        """This model with settings put in place of the file's own and weights read in another way."""
        if not overrides:  # the file's own settings stay: nothing else is read another way
            return self._patched(patches or {})
        composed = {
            name: both(self.patches[name], patch) if name in self.patches else patch
            for name, patch in (patches or {}).items()
        }
        if self.architecture.seen:  # no file tells its stages
            stated = {key: Value(value, None, "repaired") for key, value in overrides.items()}
            config = {**self.config, **stated}
            return replace(self, config=config, overrides={**self.overrides, **overrides})._patched(
                patches or {}
            )
        built = build_model(
            self.container, {**self.overrides, **(overrides or {})}, {**self.patches, **composed}
        )
        return replace(built, operations=self.operations)

    def computed_otherwise(self, *edits: Edit) -> Model:
        """This model with some operations computed otherwise than its architecture says."""
        return replace(self, operations=(*self.operations, *edits)) if edits else self

    def _patched(self, patches: Mapping[str, Patch]) -> Model:
        weights = dict(self.weights)
        put_patches(weights, patches)
        composed = {**self.patches}
        for name, patch in patches.items():
            composed[name] = both(composed[name], patch) if name in composed else patch
        patched = replace(self, weights=weights, patches=composed)
        # What follows from config and operations alone is not worked out again for each repair that is tried.
        patched.__dict__.update(_graphs=self._graphs, _settings=self._settings, _by_layer=self._by_layer)
        return patched

    @cached_property
    def unread(self) -> tuple[str, ...]:
        """Tensors of the file that no operation reads, by the file's own names."""
        known = self.graph.dims
        kept = {weight.entry.name for name, weight in self.weights.items() if name in known}
        idle = (weight.entry.name for weight in self.weights.values() if weight.entry.name not in kept)
        return tuple(dict.fromkeys([*self.unknown, *idle]))

    @property
    def parameters(self) -> int:
        """Weights that the file stores, a tied or fused tensor counted once."""
        return sum(_count(entry) for entry in self.container.tensors.values())


def open_model(path: str | Path, *, run_as: str | None = None, must_run: bool = True) -> Model:
    """Open a file or folder and bring what it holds into canonical form.

    Args:
        path: the file or folder; or `peft:BASE+ADAPTER`.
        run_as: the architecture that it is taken for where it declares none that rosetta runs.
        must_run: whether one that rosetta does not run is refused; else it has no stages.

    Raises:
        DamagedFileError: the file contradicts its format, or its configuration is incomplete.
        UnsupportedError: the container or the architecture is none that rosetta runs.
    """
    container = open_operand(path)
    unknown = bool(container.architecture) and architecture_of(container) is None
    if unknown and run_as is not None:
        return build_model(container, {"architecture": run_as})
    return build_model(container, must_run=must_run)


def open_weights(path: str | Path) -> Model:
    """A file or folder of which no more is read than weights and settings, whatever the architecture.

    Raises:
        DamagedFileError, UnsupportedError: see `open_model`.
    """
    container = open_operand(path)
    return build_model(container, described=False)


def build_model(
    container: Container,
    overrides: Mapping[str, Any] | None = None,
    patches: Mapping[str, Patch] | None = None,
    must_run: bool = True,
    described: bool = True,
) -> Model:
    """The canonical model of an open container; see `Model` and `open_model` for the arguments.

    Args:
        described: whether it is read as what rosetta knows of its architecture says.
    """
    overrides, patches = overrides or {}, patches or {}
    architecture = (
        _architecture(container, overrides, must_run) if described else not_run(str(container.architecture))
    )
    _refuse_without_weights(container)
    names = canonical_names(container.tensors, architecture, _layers_named(container))
    idle = idle_tensors(container, architecture, names)
    names = {source: None if name in idle else name for source, name in names.items()}
    if not architecture.runs:
        names = _own_names(container, names)
    entries = _entries(container, names)
    stored = {name: entry for name, entry in entries.items() if entry.nbytes}
    shapes = {name: entry.dims for name, entry in stored.items()}
    config, unheeded = read_config(container, architecture, shapes, overrides)
    read = {source: name for source, name in names.items() if source not in idle}
    factors, held = factors_of(container, architecture, read)
    weights = multiplied(canonical_weights(container, architecture, config, stored), factors)
    if isinstance(container, AdaptedContainer):
        merged = adapted_weights(container, architecture, config, weights)
        if "vocab_size" not in overrides:
            _count_rows_of_adapter(config, weights, merged)
        weights = merged
    leave_out(container, architecture, config, weights, overrides)
    if architecture.rope is not None and "rope.scaling" not in overrides:
        _scaling_from_tensors(container, config, weights)
    if "tied_embeddings" in overrides:
        _tie(weights, overrides["tied_embeddings"], own_head="output.weight" in entries)
    put_patches(weights, patches)
    unknown = tuple(source for source, name in names.items() if name is None and source not in held)
    model = Model(container, architecture, config, weights, unknown, overrides, patches, unheeded)
    if container.absent:
        hold_to_index(container, architecture, model.graph, weights, _layers_named(container))
    return model


def _refuse_without_weights(container: Container) -> None:
    """Refuse a file of which nothing can be read as a model's weights."""
    if not container.tensors:
        raise UnsupportedError(
            "the file holds no tensors, only metadata",
            file=container.path,
            remedy="give the file that holds the weights; rosetta tokenize reads a vocabulary alone",
        )
    if container.refusal is not None:
        raise container.refusal
    if all(0 in entry.dims for entry in container.tensors.values()):
        raise DamagedFileError(
            f"all {len(container.tensors)} tensors are empty (dims [0])",
            file=container.path,
            remedy="gather the weights before saving: under ZeRO stage 3 each process holds none of them whole",
        )


def _entries(container: Container, names: Mapping[str, str | None]) -> dict[str, TensorEntry]:
    """The tensors that have a canonical name, by it."""
    entries: dict[str, TensorEntry] = {}
    for source, name in names.items():
        if name is None:
            continue
        if name in entries:
            raise DamagedFileError(
                f"tensors {entries[name].name!r} and {source!r} are both {name}",
                file=container.path,
                remedy="export the model with each tensor once",
            )
        entries[name] = container.tensors[source]
    return entries


def _count_rows_of_adapter(
    config: dict[str, Value], weights: Mapping[str, Weight], merged: Mapping[str, Weight]
) -> None:
    """Put the number of tokens of an adapter that brings an embedding of another size than its base's."""
    own, embedding = weights.get("token_embd.weight"), merged.get("token_embd.weight")
    if own is not None and embedding is not None and own.dims != embedding.dims:
        config["vocab_size"] = Value(embedding.dims[0], embedding.entry.name)


def _tie(weights: dict[str, Weight], tied: object, *, own_head: bool) -> None:
    """Make the head the embedding, or take it away where it was and the file has none (a repair's setting)."""
    if tied is True and "token_embd.weight" in weights:
        weights["output.weight"] = replace(weights["token_embd.weight"], name="output.weight")
    elif tied is False and not own_head:
        weights.pop("output.weight", None)


def _own_names(container: Container, names: Mapping[str, str | None]) -> dict[str, str | None]:
    """The names of tensors of an architecture that is not run: what has no canonical one, or the same as another, keeps
    its own. Counters and masks (None) are no weights."""
    given = Counter(names.values())
    return {
        source: None
        if container.tensors[source].dtype in NO_NUMBERS
        else name
        if name and given[name] == 1
        else source
        for source, name in names.items()
    }


def _scaling_from_tensors(
    container: Container, config: dict[str, Value], weights: Mapping[str, Weight]
) -> None:
    """Put the rope scaling that tensors hold into the config."""
    held = {name: weights[name] for name in FACTORS if name in weights}
    pairs = config["rope.dimension_count"].value // 2
    values = {name: weight.values().tolist() for name, weight in held.items() if weight.count == pairs}
    keys = config["rope.scaling"].value
    setting = container.settings.get("rope.scaling.original_context_length")
    original = setting.value if setting is not None else config["context_length"].value
    if container.kind != "gguf" and keys is not None:  # the tensors' divisors count, not its table's
        original = keys.beyond or original
        keys = RopeScaling((1.0,) * pairs, keys.magnitude) if keys.long else None
    scaling = rope_scaling_from_tensors(values, keys, original)
    if scaling is not None:
        config["rope.scaling"] = Value(scaling, held[next(iter(values))].entry.name)


def put_patches(weights: dict[str, Weight], patches: Mapping[str, Patch]) -> None:
    """Put what repairs make of weights in their place."""
    for name, patch in patches.items():
        patched = patch(weights.get(name))
        if patched is not None:
            weights[name] = replace(patched, repaired=True)


def both(first: Patch, second: Patch) -> Patch:
    """One patch after another."""

    def patch(found: Weight | None) -> Weight | None:
        return second(first(found))

    return patch


def misfit(weight: Weight) -> str | None:
    """How a weight's bytes contradict its dtype and dims; None where they fit."""
    try:
        fits = blocks.fits(weight.dtype, weight.nbytes, weight.stored_dims)
    except UnsupportedError:
        return f"{weight.name} has a dtype that cannot be decoded, {weight.dtype}"
    if not fits:
        taken = blocks.nbytes(weight.dtype, weight.stored_dims)
        return f"{weight.name} of {weight.dtype} takes {taken:,} bytes, the file has {weight.nbytes:,}"
    room = weight.entry.room
    return (
        None
        if room is None
        else f"{weight.name} takes {weight.entry.nbytes:,} bytes, the file has room for {room:,}"
    )


def _architecture(container: Container, overrides: Mapping[str, Any], must_run: bool) -> Architecture:
    declared = overrides.get("architecture", container.architecture)
    if not declared:
        raise DamagedFileError(
            "the metadata names no architecture",
            file=container.path,
            remedy="export the model again with its architecture",
        )
    given = "architecture" in overrides
    architecture = find_architecture(str(declared)) if given else architecture_of(container)
    if architecture is None and not must_run:
        return not_run(str(declared))
    if architecture is None:
        known = ", ".join(architecture.name for architecture in all_architectures())
        raise UnsupportedError(
            f"the architecture {str(declared)[:80]!r} is not supported",
            file=container.path,
            remedy=f"rosetta runs {known}",
        )
    return (architecture.variant(container.metadata) if given else None) or architecture


def _layers_named(container: Container) -> int:
    """Number of layers that tensor names speak of: a wrong block count must not make tensors nameless."""
    numbers = [int(found[1]) for name in container.tensors if (found := FOREIGN_LAYER.search(name))]
    return min(max(numbers, default=0) + 1, LARGEST_BLOCK_COUNT)


def _count(entry: TensorEntry) -> int:
    count = 1
    for dim in entry.dims:
        count *= dim
    return count if entry.nbytes else 0
