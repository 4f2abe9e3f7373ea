"""Stored tensors -> canonical weights: fused and stacked ones taken apart, turned ones and rotary rows put in order, an
adapter merged. Reads headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rosetta import blocks
from rosetta.adapted import adapted
from rosetta.architectures import Architecture
from rosetta.architectures.parts.readings import Stored
from rosetta.config import LARGEST_BLOCK_COUNT, Config, Value
from rosetta.containers.adapters import AdaptedContainer
from rosetta.containers.container import Container, TensorEntry
from rosetta.containers.huggingface.settings import huggingface_quantisation
from rosetta.containers.huggingface.text_part import text_part
from rosetta.dtypes import DTYPES, of_scheme
from rosetta.errors import UnsupportedError, UsageError
from rosetta.layer_settings import settings_of
from rosetta.names import LAYER, canonical_name, without_numbers
from rosetta.ops.op import Settings
from rosetta.row_order import RowOrder
from rosetta.tensor_flags import left_out
from rosetta.weight import Weight

HEAD = "output.weight"


def canonical_weights(
    container: Container, architecture: Architecture, config: Config, entries: Mapping[str, TensorEntry]
) -> dict[str, Weight]:
    """Canonical weights: fused and stacked tensors taken apart, Conv1D and declared `[in, out]` turned, rotary rows
    ordered."""
    size = settings_of(config, None, container.path)
    layers = range(min(size["block_count"], LARGEST_BLOCK_COUNT))
    of_layers = [settings_of(config, layer, container.path) for layer in layers]
    weights: dict[str, Weight] = {}
    for name, entry in entries.items():
        _check_dtype(container, entry)
        found = LAYER.match(name)
        layer = int(found[1]) if found else None
        c = of_layers[min(layer, len(of_layers) - 1)] if layer is not None else size
        for weight in read_tensor(container, architecture, c, name, entry):
            if weight.name == HEAD != name and HEAD in entries:  # a stored head is used, whatever ties it
                continue
            weights[weight.name] = weight
    embedding = weights.get("token_embd.weight")
    # transformers alone leaves a missing head random where the config does not tie it; a stored one is always used.
    may_tie = container.kind != "huggingface" or size["tied_embeddings"]
    if embedding is not None and may_tie and HEAD not in weights:
        weights[HEAD] = replace(embedding, name=HEAD)
    return weights


def adapted_weights(
    container: AdaptedContainer, architecture: Architecture, config: Config, weights: Mapping[str, Weight]
) -> dict[str, Weight]:
    """The weights with the adapter merged into them, which has the names and the order of rows of its own kind."""
    adapter = container.adapter
    of_base = container.architecture if container.kind == "gguf" else architecture.gguf
    if adapter.architecture is not None and adapter.architecture != of_base:
        raise UsageError(
            f"is an adapter for {adapter.architecture:.40}, and the base {container.path} is {of_base}",
            file=adapter.path,
            remedy="give the model that the adapter was trained on",
        )
    layers = min(config["block_count"].value, LARGEST_BLOCK_COUNT)
    rope = architecture.rope if adapter.kind == "gguf" else architecture.huggingface.rope

    def canonical(name: str) -> str | None:
        return canonical_name(name, architecture, layers)

    def read(stored: Container, name: str, entry: TensorEntry) -> list[Weight]:
        known = canonical(name) or name
        found = LAYER.match(known)
        c = settings_of(config, int(found[1]) if found else None, container.path)
        if architecture.rope is not None:
            c = {**c, "rope.type": rope}
        return read_tensor(stored, architecture, c, known, entry)

    return adapted(container, weights, canonical, read)


def leave_out(
    container: Container,
    architecture: Architecture,
    config: dict[str, Value],
    weights: dict[str, Weight],
    overrides: Mapping[str, Any],
) -> None:
    """Take out what a flag of a folder's config denies, as transformers does; the flag is then one of the settings."""
    if container.kind != "huggingface" or huggingface_quantisation(container.metadata) is not None:
        return  # GPTQ's packers store biases of zeros for every matrix
    part = text_part(container.metadata)
    tables = [] if part is None else [(part.prefix, part.config)]
    for flag, default in architecture.huggingface.flags.items():
        stems = left_out(architecture.huggingface.flags, flag)
        held = [name for name in weights if without_numbers(name) in stems]
        said = [
            (spelled + flag, table[flag])
            for spelled, table in (*tables, ("", container.metadata))
            if flag in table
        ]
        own, stated = next(((key, value) for key, value in said if isinstance(value, bool)), (None, default))
        if flag in overrides:
            config[flag] = Value(overrides[flag], flag)
        elif held and not stated:
            config[flag] = Value(False, own, "" if own else "default of transformers", (flag,))
            for name in held:
                del weights[name]


def idle_tensors(
    container: Container, architecture: Architecture, names: Mapping[str, str | None]
) -> set[str]:
    """Tensors that a GGUF's loader does not compute by, whatever a file holds in them.

    Args:
        container: the file.
        architecture: of the model, which says what llama.cpp leaves alone.
        names: what the file's tensors are called canonically.
    """
    if container.kind != "gguf":
        return set()
    parted = [_parted(name) for name in names.values() if name is not None]
    idle = {prefix + own for prefix, own in parted if own in architecture.llamacpp.idle}
    instead = architecture.llamacpp.instead
    return idle | {prefix + instead[own] for prefix, own in parted if own in instead}


def _parted(name: str) -> tuple[str, str]:
    """(`blk.N.` or nothing, the rest)."""
    found = LAYER.match(name)
    return (name.removesuffix(found[2]), found[2]) if found else ("", name)


def read_tensor(
    container: Container, architecture: Architecture, c: Settings, name: str, entry: TensorEntry
) -> list[Weight]:
    """The canonical weights that a stored tensor is read as. Reads no data: a writer asks it, too, what a reader will
    make of a tensor that is not written yet.

    Args:
        container: whose tensor it is.
        architecture: of the model.
        c: settings of the tensor's layer, in the order of rotary rows that the container keeps.
        name: canonical name of the tensor as a whole.
        entry: as the file declares it.
    """
    found = LAYER.match(name)
    turned = stored_in_out(container, architecture, name, entry)
    weight = Weight(name, container, entry, entry.dtype, entry.dims, turned)
    stem, suffix = _split(found[2] if found else name)
    layer = int(found[1]) if found else None
    foreign, packed = entry.name != name, _is_packed(container, entry)
    stored = Stored(stem, suffix, entry.dims, container.kind, layer, foreign, container.metadata, packed)
    readings = architecture.readings(stored, c)
    if readings is None:
        return [_ordered(weight, architecture, c)]
    prefix, weights = f"blk.{layer}." if found else "", []
    for reading in readings:
        read = replace(
            weight,
            name=prefix + reading.name,
            stored_dims=weight.stored_dims if reading.dims is None else reading.dims,
            transposed=turned if reading.transposed is None else reading.transposed,
            slot=reading.slot,
            part=reading.part,
            order=reading.order,
            columns=reading.columns,
            fused=None if reading.slot is None and reading.part is None else name,
            values_edits=() if reading.edit is None else (reading.edit,),
        )
        weights.append(_ordered(read, architecture, c) if read.order is None else read)
    return weights


def _is_packed(container: Container, entry: TensorEntry) -> bool:
    """Whether a scheme packed a folder's weight, in its own form or as ggml's blocks."""
    blocks_of_folder = container.kind == "huggingface" and DTYPES[entry.dtype].block_size > 1
    return of_scheme(entry.dtype) or blocks_of_folder


def _split(name: str) -> tuple[str, str]:
    """(stem, `weight` or `bias`); a name may have neither."""
    stem, _, suffix = name.rpartition(".")
    return (stem, suffix) if suffix in ("weight", "bias") else (name, "")


def _check_dtype(container: Container, entry: TensorEntry) -> None:
    """Refuse a weight whose dtype holds no real numbers, or is not decoded, by name."""
    known = blocks.decodes(entry.dtype)
    if not known or blocks.block_format(entry.dtype).write_sigma is None:
        message = f"its dtype {entry.dtype} " + ("cannot hold weights" if known else "is not decoded")
        remedy = "convert it to a float or a quantised dtype"
        if container.kind == "huggingface" and huggingface_quantisation(container.metadata) is None:
            message += " by itself, and config.json states no quantization_config"
            remedy = (
                "copy config.json from the quantised folder: its library wrote there how to read the codes"
            )
        raise UnsupportedError(message, file=container.path, where=f"tensor {entry.name!r}", remedy=remedy)


def stored_in_out(container: Container, architecture: Architecture, name: str, entry: TensorEntry) -> bool:
    """Whether a file says of a matrix that it is stored `[in, out]`.

    Args:
        container: the file; it may be one that is not written yet.
        architecture: of the model.
        name: the matrix's canonical name.
        entry: as the file declares it.
    """
    if len(entry.dims) != 2 or _is_packed(container, entry):  # by rows of outputs, whatever the module
        return False
    if container.kind == "huggingface":
        return name.endswith(".weight") and name.rsplit(".", 2)[-2] in architecture.huggingface.conv1d
    return container.transposed_linears and entry.name.endswith(("_proj.weight", "lm_head.weight"))


def _ordered(weight: Weight, architecture: Architecture, size: Mapping[str, Any]) -> Weight:
    """The weight with its rotary rows in GGUF's order, where the file declares the other one."""
    found = LAYER.match(weight.name)
    rotary = found and found[2].rpartition(".")[0] in ("attn_q", "attn_k", "attn_q_norm", "attn_k_norm")
    if not rotary or architecture.rope is None or size["rope.type"] == architecture.rope:
        return weight
    order = RowOrder(size["attention.key_length"], size["rope.dimension_count"], size["rope.type"])
    return replace(weight, order=order)
