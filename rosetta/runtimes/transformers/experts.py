"""Watches a block of experts run one expert after another, and puts the rows of each together by token and choice.

transformers' own code computes them: each expert sees the tokens that chose it, in the order of choice, then token.

Letters: T = tokens, K = chosen experts, F = width of an expert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


def expert_modules(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Blocks of stacked experts, by path: what transformers' experts interface has marked."""
    return {
        path: module
        for path, module in model.named_modules()
        if hasattr(module, "is_concatenated") and hasattr(module, "is_transposed")
    }


@dataclass
class ExpertRows:
    """One run of a block of experts.

    Args:
        module: the block.
    """

    module: torch.nn.Module
    slices: dict[int, tuple[str, int, Tensor]] = field(default_factory=dict)
    outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    inputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = {id(p): name for name, p in self.module.named_parameters(recurse=False)}

    def heard(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """One call within the block."""
        if not isinstance(output, Tensor):
            return
        tensors = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        if name == "__getitem__" and id(args[0]) in self.names and not isinstance(args[1], tuple):
            self.slices[id(output)] = (self.names[id(args[0])], int(args[1]), output)
            return
        if name in ("T", "t", "transpose", "to") and tensors and id(tensors[0]) in self.slices:
            parameter, expert, _ = self.slices[id(tensors[0])]
            self.slices[id(output)] = (parameter, expert, output)
            return
        for tensor in tensors:
            if id(tensor) in self.slices:
                parameter, expert, _ = self.slices[id(tensor)]
                key = (parameter.removesuffix("_bias"), expert)
                self.outputs[key] = output
                if not parameter.endswith("_bias"):
                    self.inputs[key] = args[0]

    def stacked(self, chosen: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What the experts computed: name of the parameter -> [T, K, …]; `act` is what enters the last of them.

        Args:
            chosen: expert of each token and choice, [T, K].
        """
        for parameter in dict.fromkeys(name for name, _ in self.outputs):
            found = _stack(self.outputs, parameter, chosen)
            if found is not None:
                yield parameter, found
        act = _stack(self.inputs, "down_proj", chosen)
        if act is not None:
            yield "act", act


def _stack(rows: Mapping[tuple[str, int], Tensor], parameter: str, chosen: Tensor) -> Tensor | None:
    out: Tensor | None = None
    filled = 0
    for (name, expert), values in rows.items():
        if name != parameter:
            continue
        choice, token = torch.where((chosen == expert).T)  # in the order of choice, then token
        if values.ndim != 2 or len(values) != len(token):
            return None
        if out is None:
            out = values.new_zeros(*chosen.shape, values.shape[-1])
        out[token, choice] = values
        filled += len(token)
    return out if out is not None and filled == chosen.numel() else None
