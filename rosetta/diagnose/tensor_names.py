"""What a file would call a tensor that it has not: a converter is told by the names that it writes."""

from __future__ import annotations

import re

from rosetta.architectures.parts.module_names import folder_name
from rosetta.model import Model
from rosetta.names import LAYER, canonical_name
from rosetta.weight import Weight


def own_name(model: Model, name: str, other: Weight | None = None) -> str:
    """The name that a tensor would have in a file: that of another layer with the number changed, that of a file of the
    same kind, that of the class; the canonical one in a GGUF file, and where no other is known.

    Args:
        model: what lacks it.
        name: its canonical name.
        other: the other side's copy.
    """
    if model.container.kind == "gguf":
        return stacked(name)
    if (found := LAYER.match(name)) is not None:
        for layer in range(model.block_count):
            sibling = model.weights.get(f"blk.{layer}.{found[2]}")
            if sibling is not None:
                return re.sub(rf"(?<=\.){layer}(?=\.)", found[1], sibling.entry.name, count=1)
    if other is not None and other.container.kind == model.container.kind:
        return other.entry.name
    usual = folder_name(model.architecture, name)
    # A part of a fused tensor, or the tensors of a class that calls them otherwise, are no modules of that name.
    known = usual is not None and canonical_name(usual, model.architecture, model.block_count) == name
    named_as_gguf = any(LAYER.match(own) for own in model.container.tensors)
    return name if usual is None or not known or named_as_gguf else usual


def stacked(name: str) -> str:
    """The tensor in which a GGUF file has a matrix of an expert, with those of the others.

    >>> stacked("blk.0.ffn_up_exps.3.weight")
    'blk.0.ffn_up_exps.weight'
    """
    return re.sub(r"(?<=_exps)\.\d+\b", "", name)
