"""The tensors that a Hugging Face folder of an architecture has, under the names by which it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.architectures.parts.module_names import modules_of
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.convert.placing import Candidate, stem_of
from rosetta.model import Model
from rosetta.names import LAYER
from rosetta.setting_values import listed
from rosetta.weight import Weight


def folder_candidates(model: Model, weights: Mapping[str, Weight]) -> Iterator[Candidate]:
    """Tensors that a folder may keep the weights in, those that are preferred first.

    Args:
        model: whose weights they are.
        weights: those to be written, by canonical name.
    """
    architecture = model.architecture
    layers = sorted({int(found[1]) for name in weights if (found := LAYER.match(name))})
    for template, canonical in architecture.huggingface.parameters.items():
        if stem_of(canonical.format(bid=0)) in architecture.huggingface.taken_apart:
            continue
        for name, whole, like in _each(model, template, canonical, layers):
            yield Candidate(name, whole, like)
    for template, canonical in modules_of(architecture).items():
        beside = architecture.huggingface.only_beside.get(template)
        there = [n for n in layers if beside is None or beside.format(bid=n) + ".weight" in weights]
        for name, whole, like in _each(model, template, canonical, there):
            for suffix in (".weight", ".bias", ""):
                yield Candidate(name + suffix, whole + suffix, like and like + suffix)


def setting_tensors(model: Model, like: str = "F32") -> Iterator[TensorInput]:
    """The settings that a folder of the architecture keeps as tensors, one number a layer.

    Args:
        model: whose; a GGUF file states them as keys, others have the tensors already.
        like: the dtype of the folder's matrices: where it is a float that holds the number exactly, the number's too.
    """
    architecture = model.architecture
    if model.container.kind != "gguf":
        return
    for template, canonical in architecture.huggingface.parameters.items():
        key = stem_of(canonical.format(bid=0))
        if key in model.config and key in architecture.huggingface.dims:
            for layer, value in enumerate(listed(model.config, key)):
                number = torch.tensor([value], dtype=torch.float32)
                narrow = number.to(blocks.TORCH_FLOATS.get(like, torch.float32))
                dtype = like if like in blocks.TORCH_FLOATS and torch.equal(narrow.float(), number) else "F32"
                data = (number if dtype == "F32" else narrow).view(torch.uint8).numpy()
                yield TensorInput(template.format(bid=layer), dtype, architecture.huggingface.dims[key], data)


def numbers_of(model: Model, tensors: Mapping[str, TensorEntry]) -> dict[str, NDArray[np.uint8]]:
    """The bytes of tensors of one number, by which some architectures state settings: those that are copied from a
    model, and those that are made of it.

    Args:
        model: the source.
        tensors: of the file to be written, by name.
    """
    source = model.container
    copied = {
        name: source.read(name)
        for name, entry in tensors.items()
        if math.prod(entry.dims) == 1 and name in source.tensors and source.tensors[name].dtype == entry.dtype
    }
    return copied | {made.name: made.data for made in setting_tensors(model)}


def _each(
    model: Model, name: str, canonical: str, layers: list[int]
) -> Iterator[tuple[str, str, str | None]]:
    """A name in all layers, and for all experts, whose names are alike."""
    name = re.sub("^model\\.", model.architecture.huggingface.text_names, name)
    for layer in layers if "{bid}" in name else [0]:
        each = "{eid}" in name
        count = (model.settings_of(layer).get("expert_count") or 0) if each else 1
        like = name.format(bid=layer, eid="") if each else None
        for expert in range(count):
            yield name.format(bid=layer, eid=expert), canonical.format(bid=layer, eid=expert), like
