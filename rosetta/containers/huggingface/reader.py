"""Opens Hugging Face folders: config.json and safetensors weights, in one file or in shards with an index."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import Container, Setting, StoredDefaults, TensorEntry
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import PICKLE_SUFFIXES, SAFE, refusal_of_file
from rosetta.containers.huggingface.settings import huggingface_architecture, huggingface_settings
from rosetta.containers.huggingface.writer import CONFIG, INDEX, WEIGHTS
from rosetta.containers.json_text import json_object
from rosetta.containers.safetensors_file import METADATA, read_header, read_table
from rosetta.containers.span import slice_of
from rosetta.containers.training_saves import names_of_training, save_in
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError
from rosetta.sources.places import is_file, names_in

_MAX_JSON = 100_000_000  # bytes, of config and index
_AGAIN = "download the folder again"
_STRAY = (
    f"{WEIGHTS} lies beside {INDEX} and is the one that is read, as transformers does; llama.cpp's converter may "
    "read the shards that the index names: remove whichever is not this model's"
)
# Buffers that older transformers saved and that every loader computes anew.
_NEVER_READ = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids")


class HuggingFaceContainer(StoredDefaults):
    """An open Hugging Face folder.

    Args:
        path: the folder.
        metadata: config.json.
        files: its safetensors files, open; `close` closes them.
    """

    kind = "huggingface"
    label = "HF"

    def __init__(self, path: Path, metadata: Mapping[str, Any], files: list[FileBytes]) -> None:
        self.path, self._files = path, files
        self.metadata: Mapping[str, Any] = MappingProxyType(dict(metadata))
        self.architecture = huggingface_architecture(metadata)
        self.settings: Mapping[str, Setting] = MappingProxyType(huggingface_settings(path / CONFIG, metadata))
        self.file_bytes = sum(file.size for file in files)
        self._places: dict[str, tuple[FileBytes, int]] = {}
        entries: dict[str, TensorEntry] = {}
        for file in files:
            found, places = read_header(file)
            for name, entry in found.items():
                if name in entries:
                    message = f"is in {self._places[name][0].path.name} too"
                    raise DamagedFileError(message, file=file.path, where=f"tensor {name!r}", remedy=_AGAIN)
                entries[name], self._places[name] = entry, (file, places[name])
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(entries)
        self.notes: tuple[str, ...] = ()
        # Which file each tensor is in by the index; empty where there is none.
        self.indexed: Mapping[str, str] = MappingProxyType({})
        # How many bytes the tensors have by the index, whatever it holds there; None where it does not say.
        self.indexed_bytes: Any = None

    @property
    def files(self) -> Mapping[Path, tuple[str, ...]]:
        """The weight files, and the tensors that each holds in the order of their data."""
        return {
            file.path: tuple(name for name, (holder, _) in self._places.items() if holder is file)
            for file in self._files
        }

    @cached_property
    def data_starts(self) -> Mapping[Path, int]:
        """See `Container`."""
        starts = {file.path: file.size for file in self._files}
        for file, place in self._places.values():
            starts[file.path] = min(starts[file.path], place)
        return starts

    def header_metadata(self, path: Path) -> Any:
        """The free-form part of the header of one of its files; None where it has none."""
        return next(read_table(file).get(METADATA) for file in self._files if file.path == path)

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        start, size = slice_of(self.tensors[name], start, nbytes)
        file, place = self._places[name]
        return file.array(place + start, size)

    def place(self, name: str) -> tuple[Path, int]:
        """See `StoredContainer.place`."""
        file, start = self._places[name]
        return file.path, start

    def close(self) -> None:
        for file in self._files:
            file.close()


def recognises(path: Path, head: bytes) -> bool:
    """Whether the path is a folder with a config.json."""
    return is_file(path / CONFIG)


def open(path: Path) -> HuggingFaceContainer:
    """Open a Hugging Face folder as it is, packed weights and all: config, index and the headers of its weight files.

    Raises:
        UsageError: the weights, or some of their files, are missing.
        UnsupportedError: there are no weights but pickles.
        DamagedFileError: a file contradicts itself, or the index the files.
    """
    metadata = _object(path / CONFIG, "the config")
    index = _index(path)
    placed = None if index is None else _weight_map(path, index)
    files: list[FileBytes] = []
    try:
        for name in dict.fromkeys(placed.values()) if placed is not None else [WEIGHTS]:
            if not is_file(path / name):
                message = f"{name} is missing, which {INDEX} names"
                raise UsageError(message, file=path, remedy=_AGAIN)
            files.append(FileBytes(path / name))
            _refuse_placeholder(files[-1])
        container = HuggingFaceContainer(path, metadata, files)
        if index is not None and placed is not None:
            _hold_to_index(path, placed, container)
            container.indexed_bytes = _total_size(index)
        elif is_file(path / INDEX):
            container.notes = (*container.notes, _STRAY)
        container.refusal = names_of_training(path, container.tensors)
        return container
    except BaseException:
        for file in files:
            file.close()
        raise


def _index(path: Path) -> dict[str, Any] | None:
    """The index; None where all tensors are in the one file."""
    if is_file(path / WEIGHTS):
        return None
    if not is_file(path / INDEX):
        raise _no_weights(path)
    return _object(path / INDEX, "the index")


def _total_size(index: Mapping[str, Any]) -> Any:
    """How many bytes the tensors have, as an index says it."""
    said = index.get("metadata")
    return said.get("total_size") if isinstance(said, Mapping) else None


def _weight_map(path: Path, index: Mapping[str, Any]) -> dict[str, str]:
    """Which file holds which tensor."""
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise DamagedFileError("has no weight_map", file=path / INDEX, remedy=_AGAIN)
    for tensor, name in placed.items():
        if not isinstance(name, str) or not _is_file_name(name):
            message = f"places it in {name!r:.80}, which is no file of the folder"
            raise DamagedFileError(message, file=path / INDEX, where=f"tensor {tensor!r}", remedy=_AGAIN)
    return placed


def _refuse_placeholder(file: FileBytes) -> None:
    """Say of a shard that is no safetensors file at all what it is."""
    head = file.bytes(0, min(file.size, 64))
    if not len(head) or bytes(head).startswith(b"version https://git-lfs"):
        raise refusal_of_file(file.path, bytes(head))


def _is_file_name(name: str) -> bool:
    """Whether the name can be one of a file in the folder itself, on any system."""
    plain = name.isprintable() and not set(name) & set("/\\") and name not in ("", ".", "..")
    return plain and len(name.encode()) <= 255


def _hold_to_index(path: Path, placed: dict[str, str], container: HuggingFaceContainer) -> None:
    absent = {tensor: name for tensor, name in placed.items() if tensor not in container.tensors}
    for file, held in container.files.items():
        wanted = sum(name == file.name for name in placed.values())
        if not held:
            message = f"holds no tensor, and {INDEX} places {wanted} in it: it was not written to its end"
            raise DamagedFileError(
                message, file=file, remedy="download this file again, or save the model again"
            )
    computed = [tensor for tensor in absent if tensor.endswith(_NEVER_READ)]
    container.indexed = MappingProxyType(placed)
    container.absent = MappingProxyType({t: name for t, name in absent.items() if t not in computed})
    container.notes = (
        *container.notes,
        *(f"{INDEX} names {tensor}, which is in no file and is not needed" for tensor in computed),
    )


def not_where_placed(container: Container, tensor: str, file: str) -> DamagedFileError:
    """The error for a tensor that the index of a folder places in a file that lacks it."""
    message = f"is not in {file}, where the index has it"
    return DamagedFileError(message, file=container.path / INDEX, where=f"tensor {tensor!r}", remedy=_AGAIN)


def _no_weights(path: Path) -> RosettaError:
    if (save := save_in(path)) is not None:
        return save
    names = names_in(path)
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        message = f"holds its weights as a pickle only ({pickles[0]}), which rosetta never opens"
        return UnsupportedError(message, file=path, remedy=SAFE)
    if WEIGHTS in names:
        broken = isinstance(path, Path) and (path / WEIGHTS).is_symlink()
        what = "a link to a file that is not there" if broken else "no file"
        return UsageError(f"has a {WEIGHTS} that is {what}", file=path, remedy=_AGAIN)
    others = [name for name in names if name.endswith((".safetensors", ".gguf", ".apr"))]
    found = f"; it has {', '.join(others[:3])}" if others else ""
    return UsageError(f"has no {WEIGHTS} and no {INDEX}{found}", file=path, remedy=_AGAIN)


def _object(path: Path, what: str) -> dict[str, Any]:
    file = FileBytes(path)
    try:
        if file.size > _MAX_JSON:
            message = f"has {file.size:,} bytes, rosetta reads {_MAX_JSON:,}"
            raise DamagedFileError(message, file=path, remedy=_AGAIN)
        return json_object(path, file.bytes(0, file.size), what, lenient=True)
    finally:
        file.close()
