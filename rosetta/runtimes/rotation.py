"""How queries and keys of a foreign run come into the order of rotary rows that they are compared in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.architectures import INTERLEAVED, SPLIT_HALF
from rosetta.architectures.parts.readings import Stored
from rosetta.model import Model
from rosetta.row_order import RowOrder
from rosetta.runtimes.observed.capture import Capture, Facts
from rosetta.runtimes.observed.graph import weight_layer, weight_stem
from rosetta.runtimes.observed.order import adjacent_pairs, split_halves

ROTATED = ("q", "k", "q_rope", "k_rope")


def is_rotated(stage: str) -> bool:
    """Whether a stage is queries or keys, whose rows may lie in either order."""
    return stage.rpartition(".")[2] in ROTATED


@dataclass(frozen=True)
class Rotation:
    """How q and k of a runtime come into the order that they are compared in.

    Args:
        pairs: whether split halves are brought into adjacent pairs.
        dimensions: how many of a head are rotated; None: all.
        folder_halves: whether the rows of a folder, which transformers runs, lie in split halves, whichever of them it
            then turns together; None: as it turns them.
    """

    pairs: bool = False
    dimensions: int | None = None
    folder_halves: bool | None = None

    def turned(self, run: Capture) -> Iterator[tuple[str, Tensor]]:
        """Stages as tensors, q and k in that order. Where nothing is rotated, transformers has its folder's order."""
        for stage, value in run:
            tensor = torch.from_numpy(value)
            yield stage, self.forth(stage, tensor) if self.of(run.facts) else tensor

    def of(self, facts: Facts) -> bool:
        """Whether a run's rows lie in split halves."""
        of_folder = facts.runtime == "transformers"
        if of_folder and self.folder_halves is not None:
            return self.folder_halves
        return facts.rope == "split_half" or (facts.rope is None and of_folder)

    def forth(self, stage: str, x: Tensor) -> Tensor:
        """A stage of the runtime in the order of the comparison."""
        turns = self.pairs and is_rotated(stage) and x.ndim == 3
        return adjacent_pairs(x, self.dimensions or x.shape[-1]) if turns else x

    def back(self, stage: str, x: Tensor) -> Tensor:
        """A stage of the comparison in the runtime's own order."""
        turns = self.pairs and is_rotated(stage) and x.ndim == 3
        return split_halves(x, self.dimensions or x.shape[-1]) if turns else x


NOT_TURNED = Rotation()


def as_gguf_has_them(model: Model | None) -> Rotation:
    """The order of rotary rows in the GGUF file of a model."""
    if model is None:
        return NOT_TURNED
    if model.architecture.rope == INTERLEAVED:
        halves = model.architecture.huggingface.rope == SPLIT_HALF
        return Rotation(True, int(model["rope.dimension_count"]), halves)
    return Rotation(True) if _turned_by_converter(model) else NOT_TURNED


def _turned_by_converter(model: Model) -> bool:
    """Whether a folder's queries are read in another order of rows, though nothing rotates them."""
    for name, weight in model.weights.items():
        layer = weight_layer(name)
        if weight_stem(name) == "attn_q" and layer is not None:
            stored = Stored("attn_q", "weight", tuple(weight.dims), "huggingface", layer, True)
            found = model.architecture.readings(stored, model.settings_of(layer)) or ()
            return any(isinstance(reading.order, RowOrder) for reading in found)
    return False
