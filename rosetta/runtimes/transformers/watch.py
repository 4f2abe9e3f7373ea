"""Watches every torch function of a forward pass: which parameters it consumes, by identity, and what became of what.

One pass draws the graph; later passes find its nodes again, by module, function and count, and read or overwrite them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rosetta.runtimes.observed.graph import Kind, Node
from rosetta.runtimes.transformers.operations import MOVES, factor_of, function_name, kind_of

MARK = "_rosetta_node"
IN_PLACE = frozenset({"__setitem__", "__iadd__", "__imul__", "__isub__", "__itruediv__"})
Key = Hashable
Listener = Callable[[str, tuple[Any, ...], Mapping[str, Any], Any], None]


class Calls(TorchFunctionMode):
    """Gives each result of each call a key that is the same in every pass.

    Args:
        model: the module that will be run.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.stack: list[str] = [""]
        self.counts: Counter[tuple[str, str]] = Counter()
        self.listener: Listener | None = None  # of a block of experts, which is one operation

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = function_name(func)
        if self.listener is not None:
            self.listener(name, args, kwargs, output)
            return output
        results = [output] if isinstance(output, Tensor) else output
        if func is torch.Tensor.__setitem__ and isinstance(args[0], Tensor):
            results = [args[0]]
        if not isinstance(results, list | tuple) or not any(isinstance(r, Tensor) for r in results):
            return output
        place = (self.stack[-1], name)
        count = self.counts[place]
        self.counts[place] += 1
        changed = list(results)
        for number, result in enumerate(results):
            if isinstance(result, Tensor):
                changed[number] = self.seen((*place, count, number), name, args, kwargs, result)
        if in_place(name) and isinstance(results[0], Tensor) and results[0]._base is not None:
            base = results[0]._base  # what it is a part of has changed too
            self.seen((*place, count, "base"), "__setitem__", (base, changed[0]), {}, base)
        if not any(a is not b for a, b in zip(changed, results, strict=True)):
            return output
        return changed[0] if isinstance(output, Tensor) else type(output)(changed)

    def seen(
        self, key: Key, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
    ) -> Tensor:
        """One result; what is returned takes its place."""
        raise NotImplementedError

    @contextmanager
    def hooks(self, model: torch.nn.Module) -> Iterator[None]:
        """Knows which module is being run."""

        def enter(module: torch.nn.Module, _: Any) -> None:
            self.stack.append(self.paths.get(id(module), self.stack[-1]))

        def leave(module: torch.nn.Module, _: Any, __: Any) -> None:
            self.stack.pop()

        handles = [
            handle
            for module in model.modules()
            for handle in (
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave, always_call=True),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def in_place(name: str) -> bool:
    """Whether a function changes its first argument."""
    return (name.endswith("_") and not name.endswith("__")) or name in IN_PLACE


def tensors_of(args: Any) -> list[Tensor]:
    """Tensors among arguments, lists of them included, in order."""
    if isinstance(args, Tensor):
        return [args]
    if isinstance(args, list | tuple):
        return [tensor for part in args for tensor in tensors_of(part)]
    return []


class Drawing(Calls):
    """Draws the graph of a pass.

    Args:
        model: the module.
        weights: id of a parameter -> its canonical name.
    """

    def __init__(self, model: torch.nn.Module, weights: Mapping[int, str]) -> None:
        super().__init__(model)
        self.weights = weights
        self.nodes: list[Node] = []
        self.pass_ = object()  # a tensor may outlive the pass that marked it
        self.live: list[bool] = []  # whether a node depends on a weight
        self.of_weights: dict[int, tuple[str, ...]] = {}  # nodes that are weights in another form
        self.derived: set[int] = set()  # those of them that were computed with

    def seen(
        self, key: Key, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
    ) -> Tensor:
        tensors = tensors_of(args) + [t for value in kwargs.values() for t in tensors_of(value)]
        if name == "copy_":
            tensors = tensors[1:]
        elif name in MOVES:
            tensors = tensors[:1]  # of `type_as` and of an index, only what is moved
        kind = kind_of(name, tensors, result, args)
        number = self.add(kind, name, tensors, result, key)
        if kind == "slice":
            self.nodes[number].interleaved = takes_every_other(name, args)
            self.nodes[number].columns = columns(tensors[0], result)
        if kind == "scale":
            self.nodes[number].factor = factor_of(name, args)
        return result

    def add(self, kind: Kind, name: str, tensors: list[Tensor], result: Tensor, key: Key) -> int:
        """A node of the graph; the tensor that it is remembers it."""
        inputs: list[int] = []
        weights: list[str] = []
        for tensor in tensors:
            number = self.number_of(tensor)
            own = self.weights.get(id(tensor))
            if own is not None:
                weights.append(own)
            elif number is not None and number in self.of_weights:
                weights.extend(self.of_weights[number])
            else:
                inputs.append(number if number is not None else self._leaf(tensor))
        if name in ("baddbmm", "addmm") and len(inputs) == len(tensors):
            inputs = [*inputs[1:], inputs[0]]
        if kind == "add" and len(inputs) == 2 and all(self._by_constant(i) for i in inputs):
            kind = "rope"  # x · cos + turned(x) · sin
        node = Node(
            kind,
            tuple(inputs),
            tuple(weights),
            tuple(result.shape),
            key,
            name,
            integer=not result.dtype.is_floating_point and not result.is_complex(),
            derived=any(self.number_of(tensor) in self.derived for tensor in tensors),
            centred={"layer_norm": True, "rms_norm": False}.get(name),
        )
        if kind == "rope":
            node.interleaved = name == "view_as_real" or self._stacked(inputs)
        number = len(self.nodes)
        self.nodes.append(node)
        self.live.append(bool(weights) or any(self.live[i] for i in inputs))
        if weights and not [i for i in inputs if self.nodes[i].kind != "leaf"] and kind != "rows":
            self.of_weights[number] = tuple(weights)
            if kind != "view" or node.derived:
                self.derived.add(number)
        setattr(result, MARK, (self.pass_, number))
        return number

    def number_of(self, tensor: Tensor) -> int | None:
        """The node that a tensor is in this pass."""
        of_pass, number = getattr(tensor, MARK, (None, None))
        return number if of_pass is self.pass_ else None

    def _leaf(self, tensor: Tensor) -> int:
        number = len(self.nodes)
        self.nodes.append(Node("leaf", (), (), tuple(tensor.shape), None, "leaf"))
        self.live.append(False)
        setattr(tensor, MARK, (self.pass_, number))
        return number

    def _by_constant(self, i: int) -> bool:
        """Whether a node is a product with what depends on no weight."""
        node = self.nodes[i]
        if node.kind != "mul" or node.weights or len(node.inputs) != 2:
            return False
        return sum(not self.live[j] for j in node.inputs) == 1

    def _stacked(self, inputs: list[int]) -> bool:
        """Whether the turned half of a rotation is stacked pair by pair, not joined of halves."""
        rest = list(inputs)
        for _ in range(24):
            if not rest:
                break
            node = self.nodes[rest.pop(0)]
            if node.name == "stack":
                return True
            if not node.weights:
                rest.extend(j for j in node.inputs if self.live[j])
        return False


def columns(whole: Tensor, part: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Which values a slice takes of the last dimension alone, as runs [start, stop); None where that cannot be told."""
    if not part.ndim or part.shape[:-1] != whole.shape[:-1] or part.stride() != whole.stride():
        return None
    start, last = int(part.storage_offset() - whole.storage_offset()), int(part.shape[-1])
    same = part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    within = part.stride(-1) == 1 and 0 <= start <= int(whole.shape[-1]) - last
    return ((start, start + last),) if same and within else None


def takes_every_other(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a call takes every other value of the last dimension."""
    index = args[1] if name == "__getitem__" and len(args) > 1 else None
    last = index[-1] if isinstance(index, tuple) and index else index
    return isinstance(last, slice) and last.step == 2


Reader = Callable[[Key, Tensor], Tensor]


class Reading(Calls):
    """Hands the results that are asked for to a reader, whose answer takes their place.

    Args:
        model: the module.
        wanted: keys of nodes.
        read: takes key and value, gives the value to go on with.
    """

    def __init__(self, model: torch.nn.Module, wanted: frozenset[Key], read: Reader) -> None:
        super().__init__(model)
        self.wanted, self.read = wanted, read

    def seen(
        self, key: Key, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
    ) -> Tensor:
        if key not in self.wanted:
            return result
        new = self.read(key, result)
        if new is result:
            return result
        if in_place(name):
            result.copy_(new)
            return result
        return new
