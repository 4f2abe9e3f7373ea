"""How a runtime computes otherwise than in float32, imitated on our side: what it legitimately rounds is no fault.

A runtime that has such ways has a module `arithmetic` in its package, whose `imitations(node, model, facts)` lists
those that concern a stage.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rosetta.graph import Node
from rosetta.model import Model

Compute = Callable[[Sequence[Tensor]], Tensor]
"""A stage from its inputs, as our transformer computes it."""


@dataclass(frozen=True)
class Imitation:
    """One way in which a runtime computes a stage.

    Args:
        words: what it does, as the end of "it is computed …".
        compute: the stage from its inputs in that way, given how we compute it.
        otherwise: the same with every rounding that may go either way gone the other way; None: there are none.
    """

    words: str
    compute: Callable[[Compute, Sequence[Tensor]], Tensor]
    otherwise: Callable[[Compute, Sequence[Tensor]], Tensor] | None = None

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


def imitations(runtime: str, node: Node, model: Model, facts: Mapping[str, Any]) -> Sequence[Imitation]:
    """The ways of a runtime at one stage.

    Args:
        runtime: `llamacpp`, `transformers`; any other has none.
        node: the stage.
        model: what is computed, for its settings.
        facts: of the run: its weights' dtypes, the runtime's options.
    """
    name = f"rosetta.runtimes.{runtime}.arithmetic"
    if not runtime.isidentifier() or importlib.util.find_spec(f"rosetta.runtimes.{runtime}") is None:
        return ()
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a module, and no package
        return ()
    if found is None:
        return ()
    made: Sequence[Imitation] = importlib.import_module(name).imitations(node, model, facts)
    return made
