"""Writes Hugging Face folders: weights as safetensors, the index of several files, and whatever lies beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosetta.containers.container import TensorEntry
from rosetta.containers.safetensors_file import write_safetensors
from rosetta.containers.spool import Progress, TensorSource

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file to be written.

    Args:
        tensors: in the order of their data.
        metadata: the free-form part of its header; None for none.
    """

    tensors: Sequence[TensorSource]
    metadata: Mapping[str, Any] | None = None


Part = bytes | Path | WeightFile
"""A file of the folder: its bytes, the file that it is a copy of, or the weights that it is to hold."""


def pack_folder(place: Path, parts: Mapping[str, Part], progress: Progress | None = None) -> None:
    """Write a folder; memory holds a few megabytes of tensor data.

    Args:
        place: where an unfinished folder may lie; it is made.
        parts: its files by name.
        progress: hears which file is being written.
    """
    place.mkdir()
    for done, (name, part) in enumerate(parts.items()):
        if progress is not None:
            progress(name, done, len(parts))
        if isinstance(part, bytes):
            (place / name).write_bytes(part)
        elif isinstance(part, Path):
            shutil.copyfile(part, place / name)
        else:
            write_safetensors(place / name, part.tensors, part.metadata)


def packed_json(table: Mapping[str, Any]) -> bytes:
    """A JSON file in the form in which transformers saves them, but for its ASCII."""
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def packed_index(files: Mapping[str, Sequence[TensorEntry]], old: Mapping[str, Any]) -> bytes:
    """The index of several weight files.

    Args:
        files: the tensors of each, by its name.
        old: an index whose order and other keys stay; its `total_size` is put right where it has one.
    """
    holder = {entry.name: name for name, entries in files.items() for entry in entries}
    weight_map = {name: holder[name] for name in old["weight_map"] if name in holder}
    table = {**old, "weight_map": weight_map | holder}
    metadata = old.get("metadata")
    if isinstance(metadata, dict) and "total_size" in metadata:
        total = sum(entry.nbytes for entries in files.values() for entry in entries)
        table["metadata"] = {**metadata, "total_size": total}
    return packed_json(table)
