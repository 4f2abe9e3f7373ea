"""The tensors that a repaired packed weight is made of, where its codes are right and its scales, zero points or groups
are what is mended."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rosetta.blocks.schemes import Way, rewritten
from rosetta.containers.container import Container, TensorEntry, TensorInput
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.dtypes import FLOATS
from rosetta.repair.planned import Planned

NAMES = {torch.float16: "F16", torch.bfloat16: "BF16"}


def repacked(planned: Planned, container: Container) -> list[tuple[TensorEntry, TensorInput]] | None:
    """The tensors of a packed weight that are to be written otherwise.

    Args:
        planned: a tensor that is not merely copied.
        container: the file to be repaired.

    Returns:
        Each as it is stored and as it is to be; None where it is no packed weight, or one whose values a repair changed
        in a way that its scheme cannot say.
    """
    if not isinstance(container, QuantisedContainer) or planned.name not in container.packed:
        return None
    weight, found = container.packed[planned.name], dict[str, Tensor]()
    for held in planned.held:
        own = held.weight.container
        plain = (
            not held.weight.values_edits
            and held.weight.bytes_edit is None
            and held.weight.order == held.order
        )
        if not plain or not isinstance(own, QuantisedContainer) or own.path != container.path:
            return None
        mended = _mended(own, planned.name)
        if mended is None:
            return None
        for name, tensor in mended.items():
            if held.slot is None:
                found[name] = tensor
                continue
            stacked = found.setdefault(name, container.part(name).clone())
            which, count = held.slot
            if stacked.shape[0] != count or stacked.dtype != tensor.dtype:
                return None
            stacked[which] = tensor[which]
    parts = set(weight.parts.values())
    entries = container.stored.tensors
    return [(entries[name], _written(name, x, container)) for name, x in found.items() if name in parts]


def _mended(container: QuantisedContainer, name: str) -> Mapping[str, Tensor] | None:
    """What a repair reads in place of stored tensors, and what its way of reading comes to."""
    weight = container.packed[name]
    if weight.way == Way():
        return container.others
    found = rewritten(weight, lambda part: container.part(weight.parts[part]))
    if found is None:
        return None
    return {**container.others, **{weight.parts[part]: tensor for part, tensor in found.items()}}


def _written(name: str, tensor: Tensor, container: QuantisedContainer) -> TensorInput:
    """A tensor under the dtype that its file declares, or that a repair says it has."""
    entry, stored = container.stored.tensors[name], container.part(name)
    if tensor.dtype == torch.float32 and stored.dtype != torch.float32:
        tensor = tensor.to(stored.dtype)
    dtype = NAMES.get(tensor.dtype, entry.dtype) if entry.dtype in FLOATS else entry.dtype
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().astype(np.uint8, copy=False)
    return TensorInput(name, dtype, entry.dims, data)
