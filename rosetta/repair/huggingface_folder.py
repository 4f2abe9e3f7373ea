"""Writes a repaired Hugging Face folder: its files as they were, but for what a repair concerns."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.dtypes import flat_bytes
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import PICKLE_SUFFIXES
from rosetta.containers.huggingface.reader import HuggingFaceContainer
from rosetta.containers.json_text import json_object
from rosetta.containers.spool import Spool, Spooled, folder_beside
from rosetta.model import FOREIGN_LAYER
from rosetta.repair.changes import Change
from rosetta.repair.fix import Fix, Progress, Written, remade
from rosetta.repair.settings import Settings
from rosetta.repair.target import publish
from rosetta.repair.tokenizer_json import repair_tokenizer
from rosetta.weight import FLOATS

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
METADATA = "__metadata__"
ALIGNMENT = 8  # of the header, as the safetensors library writes it
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
)


def write_huggingface_copy(path: Path, fix: Fix, progress: Progress) -> Written:
    """Write the repaired copy of a Hugging Face folder.

    Args:
        path: the folder to be made.
        fix: what is to be repaired.
        progress: hears how far the writing has come.

    Raises:
        UsageError: it cannot be written there.
    """
    container = fix.base.container
    assert isinstance(container, HuggingFaceContainer)
    written = Written()
    settings = Settings(container, fix.repaired, fix.other)
    written.unsaid = settings.write(fix.settings)
    written.changes += settings.changes
    with folder_beside(path) as beside, Spool(path, beside, remade(fix, _holder(fix), written)) as spool:
        folder = beside / "folder"
        folder.mkdir()
        _copy_files(container, folder, written)
        if settings.changes:
            text = json.dumps(settings.metadata, indent=2, ensure_ascii=False) + "\n"
            (folder / CONFIG).write_text(text, encoding="utf-8")
        _take_tokenizer(fix, folder, written)
        placed = _placed(container, fix, [tensor.entry.name for tensor in spool.tensors])
        for done, (source, names) in enumerate(placed.items()):
            progress(source.name, done, len(placed))
            _write_weights(source, folder / source.name, names, container, spool)
        if (container.path / INDEX).is_file() and INDEX not in {source.name for source in placed}:
            _write_index(container, folder / INDEX, placed, spool)
        publish(folder, path)
    return written


def _holder(fix: Fix) -> Any:
    used = {entry.dtype for entry in fix.base.container.tensors.values()} | set(FLOATS)

    def holds(tensor: TensorInput, foreign: bool) -> bool:
        return tensor.dtype in used and tensor.data.nbytes == flat_bytes(tensor.dtype, tensor.dims)

    return holds


def _copy_files(container: HuggingFaceContainer, folder: Path, written: Written) -> None:
    """Every file of the folder itself but weights; what is left out is said."""
    weights, left_out = {path.name for path in container.files}, []
    for source in sorted(container.path.iterdir()):
        if source.name in weights or source.name == INDEX:
            continue
        if not source.is_file() or source.name.endswith(OTHER_WEIGHTS):
            left_out.append(source.name)
        else:
            shutil.copyfile(source, folder / source.name)
    if left_out:
        written.notes.append(f"left out, as no part of what was repaired: {', '.join(left_out)}")


def _take_tokenizer(fix: Fix, folder: Path, written: Written) -> None:
    """The tokenizer put right: another folder's files in the place of its own, or tokens and merges in them."""
    if not fix.vocabulary:
        return
    other = fix.other.container
    if other.kind != "huggingface":
        changes, unsaid = repair_tokenizer(folder, fix.vocabulary)
        written.changes += changes
        written.unsaid += unsaid
        return
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
        if (other.path / name).is_file():
            shutil.copyfile(other.path / name, folder / name)
            written.changes.append(Change(name, "its own", f"that of {other.path}"))


def _placed(container: HuggingFaceContainer, fix: Fix, made: Iterable[str]) -> dict[Path, list[str]]:
    """The tensors of each weight file; one that is added goes where its layer is."""
    placed = {
        path: [n for n in names if n not in fix.layout.dropped] for path, names in container.files.items()
    }
    for name in made:
        if name in container.tensors:
            continue
        layer = FOREIGN_LAYER.search(name)
        stem = name[: layer.end()] if layer else "\0"
        alike = [path for path, names in placed.items() if any(n.startswith(stem) for n in names)]
        placed[alike[-1] if alike else list(placed)[-1]].append(name)
    return placed


def _write_weights(
    source: Path, target: Path, names: list[str], container: HuggingFaceContainer, spool: Spool
) -> None:
    """One weight file: copied as it is, or its header and the tensors made anew written with the others' bytes."""
    made = {tensor.entry.name: tensor for tensor in spool.tensors if tensor.entry.name in names}
    if not made and list(container.files[source]) == names:
        shutil.copyfile(source, target)
        return
    entries = [made[name].entry if name in made else container.tensors[name] for name in names]
    if not _aligned(entries):  # wide numbers first, as the safetensors library sorts them
        entries.sort(key=lambda entry: -FLOATS.get(entry.dtype, 1))
    header: dict[str, Any] = _metadata(source)
    position = 0
    for entry in entries:
        offsets = [position, position + entry.nbytes]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.dims), "data_offsets": offsets}
        position += entry.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with target.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for entry in entries:
            found: Spooled | None = made.get(entry.name)
            for part in spool.chunks(found) if found else [container.read(entry.name).data]:
                out.write(part)


def _aligned(entries: Iterable[TensorEntry]) -> bool:
    """Whether each tensor would begin at a multiple of its numbers' size, which torch needs to view it."""
    position = 0
    for entry in entries:
        if position % FLOATS.get(entry.dtype, 1):
            return False
        position += entry.nbytes
    return True


def _metadata(source: Path) -> dict[str, Any]:
    """The free-form part of a header."""
    file = FileBytes(source)
    try:
        (length,) = struct.unpack("<Q", file.bytes(0, 8))
        header = json_object(source, file.bytes(8, length), "the header")
    finally:
        file.close()
    return {METADATA: header[METADATA]} if METADATA in header else {}


def _write_index(
    container: HuggingFaceContainer, target: Path, placed: Mapping[Path, list[str]], spool: Spool
) -> None:
    """The index: as it is where no tensor comes or goes or changes its size."""
    made = {tensor.entry.name: tensor.entry for tensor in spool.tensors}
    names = {name: path.name for path, held in placed.items() for name in held}
    source = container.path / INDEX
    same_size = all(
        n in container.tensors and e.nbytes == container.tensors[n].nbytes for n, e in made.items()
    )
    if same_size and names.keys() == container.tensors.keys():
        shutil.copyfile(source, target)
        return
    table = json.loads(source.read_bytes())
    table["weight_map"] = {name: names[name] for name in [*(n for n in table["weight_map"] if n in names)]}
    table["weight_map"] |= {name: file for name, file in names.items() if name not in table["weight_map"]}
    if isinstance(table.get("metadata"), dict) and "total_size" in table["metadata"]:
        entries = {name: made.get(name) or container.tensors[name] for name in names}
        table["metadata"]["total_size"] = sum(entry.nbytes for entry in entries.values())
    target.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
