"""How a runtime computes otherwise than in float32, imitated on our side: what it legitimately rounds is no fault.

A runtime that has such ways has a module `arithmetic` in its package, whose `imitations(node, model, facts)` lists
those that concern a stage, and whose `input_rounding(dtype, facts)` says how coarsely it multiplies. One of a name that
is not known may be built on llama.cpp's library, as many are.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rosetta.dtypes import FLOATS
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.attention import Scores
from rosetta.ops.chain import Chain
from rosetta.ops.edit import Edit, OpEdit
from rosetta.ops.linear import Linear
from rosetta.weight import Weight

# What a runtime may say it computes in, where weights and inputs are as they are.
EXACT = ("float32", "float64")
Compute = Callable[[Sequence[Tensor]], Tensor]
"""A stage from its inputs, as our transformer computes it."""


@dataclass(frozen=True)
class Imitation:
    """One way in which a runtime computes a stage.

    Args:
        words: what it does, as the end of "it is computed …".
        compute: the stage from its inputs in that way, given how we compute it.
        otherwise: the same with every rounding that may go either way gone the other way; None: there are none.
        weights: what the stage's weights are rounded to first; None: they are as the file has them.
        result: what every step of it is rounded to: what was seen is such numbers alone; None: float32.
        last_is_finer: whether the last step of it may not be rounded to that.
        operations: what its operations do otherwise.
        certain: whether the run says that it computes so, and need not be seen to.
        coarser: the float that takes part in it where float32 does here; None: none does.
        strays: standard deviations of what its inputs are rounded by, where it is not followed which way each is; None:
            it is, or nothing is rounded.
    """

    words: str
    compute: Callable[[Compute, Sequence[Tensor]], Tensor]
    otherwise: Callable[[Compute, Sequence[Tensor]], Tensor] | None = None
    weights: torch.dtype | None = None
    result: torch.dtype | None = None
    last_is_finer: bool = False
    operations: tuple[Edit, ...] = ()
    certain: bool = False
    coarser: torch.dtype | None = None
    strays: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None

    def fits(self, seen: Tensor, inputs: Sequence[Tensor]) -> bool:
        """Whether what was seen can have been computed so: where every step is rounded, it is such numbers alone, or
        what it was computed from is, and the last step, a softmax, was not rounded."""
        if self.result is None:
            return True
        found = [[seen], inputs] if self.last_is_finer else [[seen]]
        return any(all(bool((x == rounded(x, self.result)).all()) for x in some) for some in found)

    def model(self, model: Model, node: Node) -> Model:
        """The model with the stage's weights and operations as the way has them."""
        model = model.computed_otherwise(*self.operations)
        if self.weights is None:
            return model
        edit = RoundedTo(self.weights)
        return model.repaired(patches=dict.fromkeys(node.tensors, edit.patch))

    def nearest(self, seen: Tensor, plain: Compute, inputs: Sequence[Tensor]) -> Tensor:
        """What the way makes of the inputs: what was seen, as far as it lies within where roundings may go.

        Args:
            seen: what the runtime gave.
            plain, inputs: see `compute`.
        """
        y = self.compute(plain, inputs)
        if self.otherwise is None or y.shape != seen.shape:
            return y
        other = self.otherwise(plain, inputs)
        return seen.clamp(torch.minimum(y, other), torch.maximum(y, other))


@dataclass(frozen=True)
class RoundedTo:
    """The edit that rounds a weight to another float; see `edits.ValuesEdit`.

    Args:
        dtype: that float.
    """

    dtype: torch.dtype

    def patch(self, found: Weight | None) -> Weight | None:
        """The weight, rounded as its file has it: before the one is added that a folder's norms are less by."""
        return None if found is None else replace(found, values_edits=(self, *found.values_edits))

    def touches(self, start: int, stop: int) -> bool:
        """All rows."""
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        """Rounded rows."""
        return rounded(values, self.dtype)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """What their own dtype explains: how they are rounded is known."""
        return sigma


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest numbers of a coarser float, in the dtype of x; integers as they are."""
    return x.to(dtype).to(x.dtype) if x.is_floating_point() else x


def in_halves(node: Node) -> Iterator[Imitation]:
    """A stage in one of the halves: of its weights, of what it is computed from or a part of that, of both, of every
    step."""
    scores = isinstance(node.op, Scores)
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16")):

        def of_inputs(plain: Compute, inputs: Sequence[Tensor], dtype: torch.dtype = dtype) -> Tensor:
            return plain([rounded(x, dtype) for x in inputs])

        if node.required:
            words = f"with its weights rounded to {name}"
            yield Imitation(words, lambda plain, inputs: plain(inputs), weights=dtype, coarser=dtype)
            words = f"with its weights, and what is multiplied by them, rounded to {name}"
            yield Imitation(words, of_inputs, weights=dtype, coarser=dtype)
            if isinstance(node.op, Chain) and isinstance(node.op.ops[0], Linear):
                product = OpEdit(Linear, (("multiplied_in", dtype),))
                words = f"with its product in {name}"
                yield Imitation(
                    words, lambda plain, inputs: plain(inputs), operations=(product,), coarser=dtype
                )
        yield Imitation(f"with what it is computed from rounded to {name}", of_inputs, coarser=dtype)
        yield Imitation(
            f"in {name}",
            lambda plain, inputs: plain(inputs),
            result=dtype,
            last_is_finer=scores,
            coarser=dtype,
        )
        if node.required:
            # Where a sum of weights is small, its roundings are not.
            yield Imitation(
                f"in {name}, of weights that are rounded to it",
                lambda plain, inputs: plain(inputs),
                weights=dtype,
                result=dtype,
                last_is_finer=scores,
                coarser=dtype,
            )
        for i, source in enumerate(node.inputs if len(node.inputs) > 1 else ()):

            def of_one(
                plain: Compute, inputs: Sequence[Tensor], i: int = i, dtype: torch.dtype = dtype
            ) -> Tensor:
                return plain([rounded(x, dtype) if j == i else x for j, x in enumerate(inputs)])

            # As where a norm gives the dtype that it was given.
            words = f"with {source.rpartition('.')[2]} rounded to {name}"
            yield Imitation(words, of_one, coarser=dtype)
        words = f"in {name}, of what is rounded to it"
        yield Imitation(words, of_inputs, result=dtype, last_is_finer=scores, coarser=dtype)


def imitations(runtime: str, node: Node, model: Model, facts: Mapping[str, Any]) -> Sequence[Imitation]:
    """The ways of a runtime at one stage.

    Args:
        runtime: `llamacpp`, `transformers`; one that is not known has those of llama.cpp, and all have the halves.
        node: the stage.
        model: what is computed, for its settings.
        facts: of the run: its weights' dtypes, the runtime's options.
    """
    own = _package(runtime if _is_known(runtime) else "llamacpp")
    return [*(() if own is None else own.imitations(node, model, facts)), *in_halves(node)]


def input_rounding(runtime: str, dtype: str, facts: Mapping[str, Any]) -> float | None:
    """By how much a runtime at most rounds what it multiplies by a weight: root mean square over that of the inputs.

    Args:
        runtime, facts: see `imitations`.
        dtype: of the weight in the file that was run.

    Returns:
        0 where it multiplies in float32; None where it is not known, or no less than what the dtype itself explains.
    """
    options = facts.get("runtime_options")
    # Packed weights of a folder have kernels of their library's own.
    plain = dtype in FLOATS or facts.get("container") == "gguf"
    if plain and isinstance(options, Mapping) and options.get("dtype") in EXACT:
        return 0.0
    own = _package(runtime)
    found: float | None = None if own is None else own.input_rounding(dtype, facts)
    return found


def _is_known(runtime: str) -> bool:
    return runtime.isidentifier() and importlib.util.find_spec(f"rosetta.runtimes.{runtime}") is not None


def _package(runtime: str) -> Any:
    """The module of a runtime's package that declares its ways; None where it has none."""
    name = f"rosetta.runtimes.{runtime}.arithmetic"
    if not _is_known(runtime):
        return None
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a module, and no package
        return None
    return None if found is None else importlib.import_module(name)
