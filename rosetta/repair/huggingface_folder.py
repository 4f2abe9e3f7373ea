"""Writes a repaired Hugging Face folder: its files as they were, but for what a repair concerns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.container import TensorInput
from rosetta.containers.foreign import PICKLE_SUFFIXES
from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.containers.huggingface.writer import (
    CONFIG,
    INDEX,
    Part,
    WeightFile,
    pack_folder,
    packed_index,
    packed_json,
)
from rosetta.containers.spool import Progress, Spool, TensorSource, copied
from rosetta.containers.unfinished import unfinished
from rosetta.dtypes import FLOATS, flat_bytes
from rosetta.errors import UnsupportedError
from rosetta.names import FOREIGN_LAYER
from rosetta.repair.changes import Change
from rosetta.repair.fix import Fix, Written, refuse_a_plain_copy, remade
from rosetta.repair.repacked import repacked
from rosetta.repair.restating import state_settings
from rosetta.repair.settings import Settings
from rosetta.repair.tokenizer_json import put_template, repair_tokenizer
from rosetta.tokenizer.chat_template import GGUF_KEY

# Weights in other forms, which would still hold the fault.
OTHER_WEIGHTS = (*PICKLE_SUFFIXES, ".h5", ".msgpack", ".onnx", ".gguf", ".apr", ".index.json", ".safetensors")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


def write_huggingface_copy(path: Path, fix: Fix, written: Written, progress: Progress) -> None:
    """Write the repaired copy of a Hugging Face folder.

    Args:
        path: the folder to be made.
        fix: what is to be repaired.
        written: where what was done is noted.
        progress: hears how far the writing has come.

    Raises:
        NothingWritten: the file has no place for any of it.
        UsageError: it cannot be written there.
    """
    container = _as_it_is(fix)
    settings = Settings(container, fix.repaired, fix.other)
    written.unsaid = state_settings(settings, fix)
    written.changes += settings.changes
    with unfinished(path) as place, Spool(path, place.parent, remade(fix, _holder(fix), written)) as spool:
        parts = _other_files(container, written)
        if settings.changes:
            parts[CONFIG] = packed_json(settings.metadata)
        _take_tokenizer(fix, parts, written)
        refuse_a_plain_copy(written)
        made = {tensor.entry.name: tensor for tensor in spool.tensors}
        placed = _placed(container, _dropped(fix), made)
        for source, names in placed.items():
            parts[source.name] = _weights(source, names, container, made)
        if (container.path / INDEX).is_file() and INDEX not in parts:
            parts[INDEX] = _index(container, placed, made)
        pack_folder(place, parts, progress)


def _as_it_is(fix: Fix) -> HuggingFaceContainer:
    """The folder to be repaired, packed weights and all.

    Raises:
        UnsupportedError: a packed weight would have to be written otherwise than it is.
    """
    container = fix.base.container
    if isinstance(container, HuggingFaceContainer):
        return container
    assert isinstance(container, QuantisedContainer)
    remade = [
        p.name
        for p in fix.layout.tensors
        if not p.is_copied and p.name in container.packed and repacked(p, container) is None
    ]
    if remade:
        raise UnsupportedError(
            f"is packed as {container.tensors[remade[0]].dtype}, which rosetta does not write",
            file=container.path,
            where=f"tensor {remade[0]!r}",
            remedy="quantise the model again from its source",
        )
    return container.stored


def _dropped(fix: Fix) -> frozenset[str]:
    """The folder's tensors that the repaired one has no place for: of a packed weight all that it is made of."""
    return frozenset(part for own in fix.layout.dropped for part in fix.base.container.places(own))


def _holder(fix: Fix) -> Any:
    used = {entry.dtype for entry in fix.base.container.tensors.values()} | set(FLOATS)

    def holds(tensor: TensorInput, foreign: bool) -> bool:
        return tensor.dtype in used and tensor.data.nbytes == flat_bytes(tensor.dtype, tensor.dims)

    return holds


def _other_files(container: HuggingFaceContainer, written: Written) -> dict[str, Part]:
    """Every file of the folder itself but weights, to be copied; what is left out is said."""
    weights, left_out = {path.name for path in container.files}, []
    parts: dict[str, Part] = {}
    for source in sorted(container.path.iterdir()):
        if source.name in weights or source.name == INDEX:
            continue
        if not source.is_file() or source.name.endswith(OTHER_WEIGHTS):
            left_out.append(source.name)
        else:
            parts[source.name] = source
    if left_out:
        written.notes.append(f"left out, as no part of what was repaired: {', '.join(left_out)}")
    return parts


def _take_tokenizer(fix: Fix, parts: dict[str, Part], written: Written) -> None:
    """The tokenizer put right: another folder's files in the place of its own, or tokens and merges in them."""
    if not fix.vocabulary:
        return
    other = fix.other.container
    if other.kind != "huggingface":
        if GGUF_KEY in fix.vocabulary:
            written.changes.append(put_template(parts, fix.vocabulary[GGUF_KEY]))
        changes, unsaid = repair_tokenizer(parts, {k: v for k, v in fix.vocabulary.items() if k != GGUF_KEY})
        written.changes += changes
        written.unsaid += unsaid
        return
    for name in TOKENIZER_FILES:
        parts.pop(name, None)
        if (other.path / name).is_file():
            parts[name] = other.path / name
            written.changes.append(Change(name, "its own", f"that of {other.path}"))


def _placed(
    container: HuggingFaceContainer, dropped: frozenset[str], made: Iterable[str]
) -> dict[Path, list[str]]:
    """The tensors of each weight file; one that is added goes where its layer is."""
    placed = {path: [n for n in names if n not in dropped] for path, names in container.files.items()}
    for name in made:
        if name in container.tensors:
            continue
        layer = FOREIGN_LAYER.search(name)
        stem = name[: layer.end()] if layer else "\0"
        alike = [path for path, names in placed.items() if any(n.startswith(stem) for n in names)]
        placed[alike[-1] if alike else list(placed)[-1]].append(name)
    return placed


def _weights(
    source: Path, names: list[str], container: HuggingFaceContainer, made: Mapping[str, TensorSource]
) -> Part:
    """One weight file: a copy, or a header and the tensors made anew with the others' bytes."""
    if list(container.files[source]) == names and not made.keys() & set(names):
        return source
    tensors = [made[name] if name in made else copied(container, name) for name in names]
    return WeightFile(tensors, container.header_metadata(source))


def _index(
    container: HuggingFaceContainer, placed: Mapping[Path, list[str]], made: Mapping[str, TensorSource]
) -> Part:
    """The index: as it is where no tensor comes or goes or changes its size."""
    old, new = container.tensors, {name: tensor.entry for name, tensor in made.items()}
    source, files = container.path / INDEX, {path.name: names for path, names in placed.items()}
    same_size = all(name in old and entry.nbytes == old[name].nbytes for name, entry in new.items())
    if same_size and {name for names in files.values() for name in names} == old.keys():
        return source
    entries = {file: [new.get(name) or old[name] for name in names] for file, names in files.items()}
    return packed_index(entries, json.loads(source.read_bytes()))
