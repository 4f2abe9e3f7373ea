"""Writes a model of any container as GGUF."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from rosetta.containers.container import TensorInput
from rosetta.containers.gguf.packing import packed_pair
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.gguf.writer import pack_shards, refusal, shards_of
from rosetta.containers.spool import TensorSource, declared
from rosetta.convert.forms import in_another_form
from rosetta.convert.gguf_settings import gguf_settings, unsaid_words
from rosetta.convert.gguf_tensors import gguf_candidates
from rosetta.convert.placing import place_weights
from rosetta.convert.plan import Done, Request, as_stored, most_bytes, with_dtypes
from rosetta.convert.vocabulary import gguf_vocabulary_keys
from rosetta.errors import UnsupportedError
from rosetta.model import Model
from rosetta.names import LAYER
from rosetta.report.folding import folded
from rosetta.weight import Weight

# general.file_type by the dtype that most weights have (gguf-py, LlamaFileType).
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15,
    "Q5_K": 17, "Q6_K": 18, "IQ2_XXS": 19, "IQ2_XS": 20, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25, "IQ3_S": 26,
    "IQ2_S": 28, "IQ4_XS": 30, "IQ1_M": 31, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4": 38, "NVFP4": 39,
    "Q1_0": 40,
}  # fmt: skip
# What gguf-py calls tensors of the parts that see and hear, a file of their own.
OTHER_SENSES = ("v.", "a.", "mm.")
SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


def write_gguf_model(folder: Path, request: Request) -> tuple[list[Path], Done]:
    """Write a model as GGUF.

    Args:
        folder: where unfinished files may lie.
        request: what is to be written.

    Returns:
        The unfinished files under their names, and what was done.

    Raises:
        UnsupportedError: a weight that the architecture's GGUF files have no tensor for.
    """
    model, done = request.model, Done()
    if isinstance(model.container, GgufContainer):
        sources = with_dtypes(request, as_stored(model, "gguf"), {}, refusal, done)
        order, alignment = model.container.header.order, model.container.header.alignment
        pairs = _own_pairs(model.container, sources, order, request)
    else:
        order, alignment = "<", 32
        weights = written_weights(model)
        placed, left = place_weights(model, weights, "gguf", gguf_candidates(model, weights))
        left = [name for name in left if name in model.graph.dims and not _is_setting(model, name)]
        if left:
            raise UnsupportedError(
                f"no tensor of {model.architecture.gguf}'s GGUF files holds it",
                file=model.container.path,
                where=f"tensor {weights[left[0]].entry.name!r}",
                remedy="compare the folder with its like; rosetta inspect lists what it holds",
            )
        placed = [tensor for tensor in placed if not _is_setting(model, tensor.canonical)]
        sources = with_dtypes(request, placed, {t.name: t.canonical for t in placed}, refusal, done)
        rounded = in_another_form(placed)
        if rounded:
            back = "converted back, they differ from the source by that"
            which = ", ".join(folded(rounded))
            done.notes.append(
                f"the form in which GGUF has the values rounds {len(rounded)} tensors ({which}): {back}"
            )
        keys, more = _keys(model, sources, done)
        anew = {source.entry.name for source in more}
        sources = [*more, *(source for source in sources if source.entry.name not in anew)]
        pairs = [packed_pair(order, key, value) for key, value in keys.items()]
        note_left_out(model, done)
    shards = shards_of(sources, request.split_bytes)
    return pack_shards(
        folder, request.target, pairs, shards, order=order, alignment=alignment, progress=request.progress
    ), done


def written_weights(model: Model) -> dict[str, Weight]:
    """The weights of a model that a file is to hold: a head that is the embedding is not written twice."""
    embedding = model.weights.get("token_embd.weight")
    weights = {}
    for name, weight in model.weights.items():
        layer = LAYER.match(name)
        if layer is not None and int(layer[1]) >= model.block_count:
            continue  # predicts tokens further on, and is not run
        tied = name == "output.weight" and embedding is not None and weight.same_place(embedding)
        if not tied and not name.startswith(OTHER_SENSES):
            weights[name] = weight
    return weights


def _is_setting(model: Model, name: str) -> bool:
    """Whether what a tensor of the source says is a setting in GGUF: the numbers of Apertus' activation."""
    found = LAYER.match(name)
    return (found[2] if found else name).removesuffix(".weight") in model.config


def note_left_out(model: Model, done: Done) -> None:
    behind = [n for n in model.weights if (found := LAYER.match(n)) and int(found[1]) >= model.block_count]
    if behind:
        done.notes.append(f"{len(behind)} weights that predict further tokens are left out: they are not run")
    if model.unknown:
        done.notes.append(
            f"left out, as no part of the architecture: {', '.join(model.unknown[:3])}"
            + (f" and {len(model.unknown) - 3} more" if len(model.unknown) > 3 else "")
        )


def _keys(model: Model, sources: list[TensorSource], done: Done) -> tuple[dict[str, Any], list[TensorSource]]:
    """All keys in the order in which llama.cpp's converter writes them, and the tensors that state settings."""
    stated = gguf_settings(model, {source.entry.name: source.entry for source in sources})
    done.lost += unsaid_words(stated.unsaid)
    vocabulary = gguf_vocabulary_keys(model)
    done.notes += vocabulary.notes
    done.lost += vocabulary.findings
    keys = {
        "general.architecture": model.architecture.gguf,
        "general.type": "model",
        "general.name": _name(model),
        **stated.keys,
        "general.file_type": file_type(sources),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **vocabulary.keys,
    }
    names = {source.entry.name for source in sources}
    return keys, [held(tensor) for tensor in (*stated.factors, *_placeholders(model, names))]


def _placeholders(model: Model, names: Collection[str]) -> Iterator[TensorInput]:
    """Tensors of zeros that llama.cpp asks for, and does not compute by."""
    for stem, dims in model.architecture.llamacpp.placeholders.items():
        for layer in range(model.block_count):
            name, size = f"blk.{layer}.{stem}.weight", dims(model.settings_of(layer))
            if name not in names:
                yield TensorInput(name, "F32", size, np.zeros(4 * math.prod(size), np.uint8))


def held(tensor: TensorInput) -> TensorSource:
    """A tensor that is made, not read."""
    data = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)
    return TensorSource(declared(tensor), lambda: [data.data])


def _name(model: Model) -> str:
    metadata: Mapping[str, Any] = model.container.metadata
    for key in ("general.name", "name", "_name_or_path"):
        value = metadata.get(key)
        if isinstance(value, str) and value.strip("/. "):
            return value.rstrip("/").rpartition("/")[2]
    path = model.container.path.resolve()
    return path.name if path.is_dir() else path.stem


def file_type(sources: list[TensorSource]) -> int:
    """What most bytes of the matrices are."""
    return FILE_TYPES.get(most_bytes(source.entry for source in sources) or "F32", 0)


def _own_pairs(
    container: GgufContainer, sources: list[TensorSource], order: str, request: Request
) -> list[bytes]:
    """The keys of a GGUF file as they stand, but for its shards and its type."""
    pairs = {key: pair for key, pair in container.pairs().items() if key not in SPLIT_KEYS}
    if request.dtype is not None:
        pairs["general.file_type"] = packed_pair(order, "general.file_type", file_type(sources))
    return list(pairs.values())
