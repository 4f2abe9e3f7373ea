"""Writes a model of any container as a Hugging Face folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rosetta.architectures import Architecture, all_architectures
from rosetta.containers.container import TensorEntry
from rosetta.containers.gguf.writer import shards_of
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.containers.huggingface.settings import without_quantisation
from rosetta.containers.huggingface.writer import (
    CONFIG,
    INDEX,
    WEIGHTS,
    Part,
    WeightFile,
    pack_folder,
    packed_index,
    packed_json,
)
from rosetta.containers.spool import TensorSource, copied
from rosetta.convert.folder_settings import folder_config, torch_dtype, unsaid_words
from rosetta.convert.folder_tensors import folder_candidates, setting_tensors
from rosetta.convert.folder_tokenizer import tokenizer_files
from rosetta.convert.folder_vectors import without_vectors
from rosetta.convert.gguf_file import held, note_left_out, written_weights
from rosetta.convert.placing import Placed, place_weights
from rosetta.convert.plan import Done, Request, as_stored, most_bytes, with_dtypes
from rosetta.dtypes import FLOATS, flat_bytes
from rosetta.errors import RosettaError, UnsupportedError
from rosetta.model import FACTORS, Model, build_model
from rosetta.names import canonical_name, within_text_part

BESIDE = (".json", ".model", ".txt", ".jinja", ".py", ".tiktoken", ".md")
NO_WEIGHTS_INDEX = ".index.json"


def write_folder_model(folder: Path, request: Request) -> tuple[list[Path], Done]:
    """Write a model as a Hugging Face folder.

    Args:
        folder: where an unfinished folder may lie.
        request: what is to be written.

    Returns:
        The unfinished folder under its name, and what was done.

    Raises:
        UnsupportedError: a weight whose name in a folder of the architecture is not known.
    """
    done = Done()
    model = _text_part(request.model, done)
    model = replace(without_vectors(model), architecture=of_folder(model))
    parts: dict[str, Part] = {}
    packed = model.container.stored if isinstance(model.container, QuantisedContainer) else None
    if packed is not None and request.dtype is None:  # what its scheme packed stays packed
        placed, sources = [], [copied(packed, name) for name in packed.tensors]
        done.copied = len(sources)
    else:
        own = _has_folder_names(model)
        placed = as_stored(model, "huggingface") if own else _placed(model)
        names = {tensor.name: tensor.canonical for tensor in placed}
        sources = with_dtypes(request, placed, names, _refusal, done, narrowing=not own)
    if model.container.kind == "huggingface":
        for path in sorted(model.container.path.iterdir()):
            if path.is_file() and path.suffix in BESIDE and not path.name.endswith(NO_WEIGHTS_INDEX):
                parts[path.name] = path
        if request.dtype is not None:
            config = without_quantisation(model.container.metadata)  # what was packed is plain now
            parts[CONFIG] = packed_json(_with_dtype(config, _most(sources)))
    else:
        like = most_bytes(source.entry for source in sources) or "F32"
        sources += [held(tensor) for tensor in setting_tensors(model, like)]
        entries = {source.entry.name: source.entry for source in sources}
        shapes = {tensor.canonical: tensor.dims for tensor in placed}
        config, unsaid = folder_config(model, entries, shapes, _most(sources))
        done.lost += unsaid_words(unsaid, request.target)
        parts[CONFIG] = packed_json(config)
        files = tokenizer_files(model)
        parts |= files.files
        done.notes += files.notes
        done.lost += files.findings
        note_left_out(model, done)
        if model.architecture.huggingface.senses:
            done.notes.append("the folder has no weights of the part that sees: only texts make sense to it")
    shards = shards_of(sources, request.split_bytes)
    files_of = [WEIGHTS] if len(shards) == 1 else [
        f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)
    ]  # fmt: skip
    for name, shard in zip(files_of, shards, strict=True):
        parts[name] = WeightFile(shard, {"format": "pt"})
    if len(shards) > 1:
        listing = {
            name: [source.entry for source in shard] for name, shard in zip(files_of, shards, strict=True)
        }
        parts[INDEX] = packed_index(listing, {"metadata": {"total_size": 0}, "weight_map": {}})
    place = folder / request.target.name
    pack_folder(place, parts, request.progress)
    return [place], done


def _text_part(model: Model, done: Done) -> Model:
    """The model as the architecture that a folder of its text part is of; itself where it has a class of its own."""
    name = model.architecture.text_part
    if not name or _has_folder_names(model):
        return model
    whole = model.architecture.name
    done.notes.append(f"the text part of a {whole} is written as {name}, which computes the same of a text")
    part = build_model(model.container, {"architecture": name})
    # The weights are found by the whole's own readings: its files hold more beside them.
    return replace(part, weights=model.weights)


def of_folder(model: Model) -> Architecture:
    """As which architecture a folder is written: GGUF files several under one name, and what a file holds tells them
    apart; of those that fit one that transformers has, the file's own before others."""
    if _has_folder_names(model):
        return model.architecture
    alike = [a for a in all_architectures() if a.gguf == model.architecture.gguf and a.classes]
    alike.sort(key=lambda a: (not a.huggingface.in_transformers, a.name != model.architecture.name))
    nearest: tuple[int, Architecture] | None = None
    for architecture in alike:
        try:
            found = _config_as(model, architecture)
        except RosettaError:
            continue
        if found is None:
            continue
        unsaid = found[1]
        if nearest is None or len(unsaid) < nearest[0]:
            nearest = len(unsaid), architecture
        if not unsaid:
            break
    return model.architecture if nearest is None else nearest[1]


def config_as_folder(model: Model) -> dict[str, Any]:
    """config.json of the folder of its architecture that a model would be; empty where there is none."""
    try:
        found = _config_as(without_vectors(model), model.architecture)
    except RosettaError:
        return {}
    return {} if found is None else found[0]


def _config_as(
    model: Model, architecture: Architecture
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]] | None:
    """See `folder_config`, of a folder of an architecture; None where that has no name for one of the weights."""
    tried = replace(model, architecture=architecture)
    weights = {name: weight for name, weight in written_weights(tried).items() if name not in FACTORS}
    placed, left = place_weights(tried, weights, "huggingface", folder_candidates(tried, weights))
    if any(name in model.graph.dims for name in left):
        return None
    entries = {t.name: TensorEntry(t.name, "F32", t.dims, flat_bytes("F32", t.dims)) for t in placed}
    return folder_config(tried, entries, {t.canonical: t.dims for t in placed}, "float32")


def _has_folder_names(model: Model) -> bool:
    """Whether the source's tensors are those of the folder that is written, by name: an `.apr` of a model that also
    sees has those of the whole, and no settings of the part that sees."""
    container = model.container
    if container.kind != "apr":
        return container.kind == "huggingface"
    nested = any(within_text_part(name) != name for name in container.tensors)
    if nested or model.unknown or model.architecture.text_part:
        return False
    return not any(name.startswith("blk.") for name in container.tensors)


def _placed(model: Model) -> list[Placed]:
    weights = {name: weight for name, weight in written_weights(model).items() if name not in FACTORS}
    placed, left = place_weights(model, weights, "huggingface", folder_candidates(model, weights))
    left = [name for name in left if name in model.graph.dims]
    if left:
        raise UnsupportedError(
            f"how a folder of {model.architecture.name} calls it is not known",
            file=model.container.path,
            where=f"tensor {weights[left[0]].entry.name!r}",
            remedy="convert to .apr, which keeps the names",
        )
    for tensor in placed:  # a name that would be read as another tensor is a fault of the table of names
        read = canonical_name(tensor.name, model.architecture, model.block_count)
        if read != tensor.canonical:
            raise UnsupportedError(
                f"would be read as {read}, not as {tensor.canonical}",
                file=model.container.path,
                where=f"tensor {tensor.name!r}",
                remedy="convert to .apr, which keeps the names",
            )
    return placed


def _refusal(entry: TensorEntry) -> UnsupportedError | None:
    if entry.dtype in FLOATS or entry.dtype in ("I8", "I32", "I64", "U8", "BOOL"):
        return None
    return UnsupportedError(f"safetensors holds no {entry.dtype}", where=f"tensor {entry.name!r}")


def _most(sources: list[TensorSource]) -> str:
    """torch's name of what most bytes of the matrices are."""
    return torch_dtype(most_bytes(source.entry for source in sources) or "F32")


def _with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    keys = [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]
    return {**config, **dict.fromkeys(keys, dtype)}
