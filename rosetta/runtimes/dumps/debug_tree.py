"""The tree of module calls that transformers' `model_addition_debugger_context` writes with `use_repr=False`.

`CLASS_debug_tree_FULL_TENSORS.json` nests {module_path, inputs, outputs, children}; outputs stand at leaves only, and a
tensor is {shape, dtype, value}, the value a safetensors file beside it. What a leaf gives and is given is a stage of
ours where the graph says that its weight makes that stage by itself. Source: transformers, model_debugging_utils.py.

Letters: T = tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.json_text import json_object
from rosetta.containers.safetensors_file import read_header
from rosetta.errors import DamagedFileError, UnsupportedError, UsageError
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.names import LAYER
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, size
from rosetta.runtimes.dumps import Reading
from rosetta.runtimes.gauges.fused_stages import PARTS, operations
from rosetta.runtimes.transformers.weight_names import canonical_weight

FULL = "_debug_tree_FULL_TENSORS.json"
HEAD = 4096  # bytes in which the root's path stands
DATA = "data"  # the tensor of each file
LARGEST = 1 << 28  # bytes of a tree: 10 kB a layer are usual
AGAIN = "dump it again: model_addition_debugger_context(model, DIR, do_prune_layers=False, use_repr=False)"
LAYER_NUMBER = re.compile(r"\.\d+(?=\.|$)")
SILENT = frozenset({"dropout", "drop", "resid_dropout", "attn_dropout", "act", "act_fn", "rotary_emb"})
"""Modules without weights whose results stages hold already."""


def recognises(path: Path) -> bool:
    """Whether it is a tree, or a folder that holds one."""
    if path.is_dir():
        return any(path.glob("*" + FULL))
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return head.lstrip().startswith(b"{") and b'"module_path"' in head


def open(path: Path) -> Tree:
    """The tree; see `Tree`.

    Raises:
        DamagedFileError: it is no JSON of the tree's form.
        UsageError: a folder holds several.
    """
    found = sorted(path.glob("*" + FULL)) if path.is_dir() else [path]
    if len(found) > 1:
        names = " and ".join(file.name for file in found[:2])
        raise UsageError(f"holds {len(found)} trees, {names}", file=path, remedy="give one of them")
    file = FileBytes(found[0])
    try:
        if file.size > LARGEST:
            raise UnsupportedError(
                f"has {file.size:,} bytes: its tensors are printed into it", file=found[0], remedy=AGAIN
            )
        root = json_object(found[0], file.bytes(0, file.size), "the tree")
    finally:
        file.close()
    return Tree(path, found[0], tuple(_calls(found[0], root)))


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Args:
        path: of the module, without the class: `model.layers.0.mlp.up_proj`.
        given: the tensors that it was called with, in order, as the tree describes them.
        result: the tensor that it gave; None where it has children, or gave another thing.
        leaf: whether it calls no others.
    """

    path: str
    given: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any] | None
    leaf: bool


def _calls(file: Path, root: dict[str, Any]) -> Iterator[Call]:
    """Every call of the tree, in order."""
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        children = node.get("children") or [] if isinstance(node, dict) else None
        if not isinstance(children, list) or not isinstance(node.get("module_path"), str):
            raise DamagedFileError("a node of the tree has no module_path", file=file, remedy=AGAIN)
        waiting += reversed(children)
        outputs = node.get("outputs")
        yield Call(
            node["module_path"].partition(".")[2],
            tuple(_tensors(node.get("inputs"))),
            outputs if _is_tensor(outputs) else None,
            not children,
        )


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:
    if _is_tensor(value):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("shape"), str) and "dtype" in value


@dataclass(frozen=True)
class Tree:
    """A dumped tree; see `dumps.Dump`.

    Args:
        path: as it was given.
        file: the JSON file.
        calls: of modules, in order.
    """

    path: Path
    file: Path
    calls: tuple[Call, ...]
    label: str = "TRANSFORMERS"

    @property
    def data_starts(self) -> Mapping[Path, int]:
        """All of the tree is what stands before the data."""
        return {self.file: self.file.stat().st_size}

    @cached_property
    def tokens(self) -> list[int]:
        """The ids that the model was called with.

        Raises:
            UsageError: it was called with several texts at once, or with embeddings.
        """
        for call in self.calls:
            for given in call.given:
                if str(given["dtype"]) in ("torch.int64", "torch.int32"):
                    ids = self._read(given)
                    if ids.ndim == 2 and len(ids) == 1 and ids.numel():
                        return [int(i) for i in ids[0]]
                    raise UsageError(
                        f"was dumped of input of dims {list(ids.shape)}, and one text is compared",
                        file=self.file,
                        remedy="dump the call of one text, input_ids of dims [1, tokens]",
                    )
        raise UsageError("names no token ids", file=self.file, remedy="call the model with input_ids")

    def stages(self, like: Model, tokens: int, reading: Reading) -> Iterator[tuple[str, Tensor]]:
        """See `dumps.Dump`."""
        leaves = [call for call in self.calls if call.leaf]
        often = {call.path for call in leaves if sum(other.path == call.path for other in leaves) > 1}
        done: set[str] = set()
        for call in leaves:
            kind = LAYER_NUMBER.sub(".*", call.path)
            if call.path in often:
                reading.left_out[kind] = "called several times"
                continue
            named = list(_stages_of(call, like))
            if not named and call.path.rpartition(".")[2] not in SILENT:
                reading.left_out[kind] = "its result is no stage by itself"
            for name, described in named:
                if name in done:
                    continue
                value = _shaped(self._read(described), tokens, _dims(like, name))
                if value is None:
                    reading.left_out[kind] = "its dims are not those of the stage"
                    continue
                done.add(name)
                yield name, value
        layers = {int(name.split(".")[1]) for name in done if name.startswith("layers.")}
        absent = [n for n in range(like.block_count) if n not in layers]
        if absent:
            reading.notes.append(f"has nothing of {len(absent)} layers, the first {absent[0]}: {AGAIN}")

    def _read(self, described: Mapping[str, Any]) -> Tensor:
        """A tensor of the tree, float32 or int64.

        Raises:
            UnsupportedError: it is printed, not kept.
            DamagedFileError: the file that it names is not beside the tree, or holds another tensor.
        """
        name = described.get("value")
        if not isinstance(name, str):
            raise UnsupportedError(
                "its tensors are printed in five digits, and in part", file=self.file, remedy=AGAIN
            )
        place = self.file.parent / Path(name).name
        if name.removeprefix("./") != place.name or not place.is_file():
            raise DamagedFileError(
                f"names the file {name!r}, which is not beside it", file=self.file, remedy=AGAIN
            )
        file = FileBytes(place)
        try:
            entries, places = read_header(file)
            entry = entries.get(DATA)
            if entry is None or described["shape"] != f"torch.Size({list(entry.dims)})":
                raise DamagedFileError(
                    f"holds another tensor than its tree says, {described['shape']!s:.60}",
                    file=place,
                    remedy=AGAIN,
                )
            raw = torch.from_numpy(file.array(places[DATA], entry.nbytes))
        finally:
            file.close()
        if entry.dtype in INTEGERS:
            return raw.view(INTEGERS[entry.dtype]).reshape(entry.dims).long()
        return blocks.decode(entry.dtype, raw, entry.dims)


INTEGERS = {"I64": torch.int64, "I32": torch.int32}


def _stages_of(call: Call, like: Model) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The stages that a call's input and result are, by name."""
    weight = canonical_weight(f"{call.path}.weight", like.architecture.gguf)
    readers = like.graph.readers.get(weight, [])
    found = LAYER.match(weight)
    if not readers and found is not None and (stem := found[2].rpartition(".")[0]) in PARTS:
        if call.result is not None:
            yield f"layers.{found[1]}.{stem}", call.result
        first = like.graph.get(f"layers.{found[1]}.{PARTS[stem][0]}")
        if first is not None and len(first.inputs) == 1 and call.given:
            yield first.inputs[0], call.given[0]
        return
    if len(readers) != 1:
        return
    [node] = readers
    ops, prefix = operations(like, node), "" if node.layer is None else f"blk.{node.layer}."
    own = [i for i, op in enumerate(ops) if weight in {prefix + name for name in _names(like, node, op)}]
    if len(own) != 1 or not isinstance(ops[own[0]], Linear | Norm):
        return
    if own[0] == 0 and len(node.inputs) == 1 and len(call.given) == 1:
        yield node.inputs[0], call.given[0]
    if own[0] == len(ops) - 1 and call.result is not None:
        fused = next((name for name, parts in PARTS.items() if node.stage in parts), None)
        together = None if fused is None else _together(like, node, PARTS[fused])
        wide = _last(call.result) == together and together != _rows(like, node)
        yield (f"layers.{node.layer}.{fused}" if wide else node.name), call.result


def _names(like: Model, node: Node, op: Op) -> Iterator[str]:
    """The tensors that an operation of a stage reads."""
    read = op.tensors(_settings(like, node))
    yield from (*read.required, *read.optional)


def _settings(like: Model, node: Node) -> Any:
    return like.settings_of(node.layer)


def _last(described: Mapping[str, Any]) -> int | None:
    """The last dim that the tree says."""
    found = re.fullmatch(r"torch\.Size\(\[(?:\d+, )*(\d{1,12})\]\)", described["shape"])
    return None if found is None else int(found[1])


def _rows(like: Model, node: Node | None) -> int:
    """How many values a projection gives at one token."""
    return size(like.settings_of(node.layer), tuple(node.op.shape)) if node is not None else 0


def _together(like: Model, node: Node, parts: tuple[str, ...]) -> int:
    return sum(_rows(like, like.graph.get(f"layers.{node.layer}.{part}")) for part in parts)


def _dims(like: Model, name: str) -> tuple[int, ...]:
    """The dims of a stage at one token, where its operation says so."""
    node = like.graph.get(name)
    return () if node is None else tuple(size(_settings(like, node), part) for part in node.op.shape)


def _shaped(x: Tensor, tokens: int, own: tuple[int, ...]) -> Tensor | None:
    """A tensor of one text as a stage, [T, …]; None where it cannot be told which of its axes counts tokens."""
    if x.ndim < 2 or x.ndim > 4 or len(x) != 1 or not x.is_floating_point():
        return None
    x = x[0]
    if x.ndim == 3 and len(own) == 2 and x.shape != (tokens, *own):
        x = x.transpose(0, 1)  # [N, T, D]
    if x.ndim == 3 and len(own) == 2 and own[0] == tokens:
        return None
    return x.contiguous() if len(x) == tokens else None
