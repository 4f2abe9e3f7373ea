"""Tensors by which a GGUF file says a setting (`LlamaCpp.vectors`), as the setting that a folder states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rosetta.config import Config, Value
from rosetta.model import Model


def without_vectors(model: Model) -> Model:
    """The model with settings in place of vectors, where these hold no more than a setting says.

    Args:
        model: of any container; only a GGUF has such vectors.
    """
    if model.container.kind != "gguf":
        return model
    config, weights = dict(model.config), dict(model.weights)
    for key in dict.fromkeys(key for key, _ in model.architecture.llamacpp.vectors.values()):
        said = next(_settings(model, key), None)
        if said is not None:
            config[key] = said
            for name in _names(model, key):
                weights.pop(name, None)
    return replace(model, config=config, weights=weights)


def _settings(model: Model, key: str) -> Iterator[Value]:
    """The setting with a value under which it says just what the vectors hold."""
    held = {
        name: model.weights[name].values().numpy() for name in _names(model, key) if name in model.weights
    }
    for value in dict.fromkeys(float(vector[0]) for vector in held.values()):
        tried: Config = {**model.config, key: Value(value, next(iter(held)))}
        said = {
            f"blk.{layer}.{stem}.weight": np.array(values(tried), np.float32)
            for stem, (own, values) in model.architecture.llamacpp.vectors.items()
            for layer in range(model.block_count)
            if own == key
        }
        if said.keys() == held.keys() and all(np.array_equal(said[name], held[name]) for name in held):
            yield tried[key]


def _names(model: Model, key: str) -> list[str]:
    stems = [stem for stem, (own, _) in model.architecture.llamacpp.vectors.items() if own == key]
    return [f"blk.{layer}.{stem}.weight" for layer in range(model.block_count) for stem in stems]
