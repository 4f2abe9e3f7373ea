"""Writes a repaired `.apr` file in the strict form: sorted index, aligned data, checksums; all else as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rosetta.containers.apr import layout
from rosetta.containers.apr.reader import AprContainer
from rosetta.containers.apr.writer import check_name, pack_apr, refusal
from rosetta.containers.container import TensorInput
from rosetta.containers.spool import Progress, Spool, TensorSource, declared
from rosetta.containers.unfinished import unfinished
from rosetta.repair.changes import Change, said
from rosetta.repair.fix import Fix, Written, refuse_a_plain_copy, remade
from rosetta.repair.restating import state_settings
from rosetta.repair.settings import Settings
from rosetta.repair.vocabulary import own_key
from rosetta.tokenizer.chat_template import GGUF_KEY

# What the strict form puts right, by words of the notes that opening such a file leaves.
LOOSE = (
    "not sorted",
    "not aligned",
    "no multiple of",
    "checksum",
    "the magic is",
    "COLUMN_MAJOR",
    "compressed",
)


def write_apr_copy(path: Path, fix: Fix, written: Written, progress: Progress) -> None:
    """Write the repaired copy of an `.apr` file.

    Args:
        path: the file to be written.
        fix: what is to be repaired.
        written: where what was done is noted.
        progress: hears how far the writing has come.

    Raises:
        NothingWritten: the file has no place for any of it.
        UsageError: it cannot be written there.
        UnsupportedError: a tensor that the format does not hold.
    """
    container = fix.base.container
    assert isinstance(container, AprContainer)
    loose = [note for note in container.notes if any(word in note for word in LOOSE)]
    if loose:
        written.notes.append(f"written in the strict form, which the file was not ({'; '.join(loose)})")
    settings = Settings(container, fix.repaired, fix.other)
    written.unsaid = _state(settings, fix, written)
    header = container.header
    with unfinished(path) as place, Spool(path, place.parent, remade(fix, _holder(fix), written)) as spool:
        refuse_a_plain_copy(written)
        text = _text(settings, fix, spool, container)
        tensors, codes = _tensors(fix, spool, container)
        pack_apr(
            place,
            text,
            tensors,
            flags=header.flags,
            version=header.version,
            reserved=header.reserved,
            codes=codes,
            progress=progress,
        )


def _state(settings: Settings, fix: Fix, written: Written) -> list[str]:
    unsaid = state_settings(settings, fix)
    written.changes += settings.changes
    for key, value in fix.vocabulary.items():
        own = own_key(key)
        if key == GGUF_KEY and "chat_template" in settings.metadata:
            own = "chat_template"
        plain = value.tolist() if hasattr(value, "tolist") else value
        if settings.metadata.get(own) != plain:
            written.changes.append(Change(own, said(settings.metadata.get(own)), said(plain)))
            settings.metadata[own] = plain
    return unsaid


def _text(settings: Settings, fix: Fix, spool: Spool, container: AprContainer) -> bytes:
    """The metadata: as it stands where nothing in it changes, else written anew in the same order."""
    shapes = settings.metadata.get("tensor_shapes")  # a copy of the index that some writers add
    if isinstance(shapes, dict):
        shapes.update({tensor.entry.name: list(tensor.entry.dims) for tensor in spool.tensors})
        for name in fix.layout.dropped:
            shapes.pop(name, None)
    if settings.metadata == dict(container.metadata):
        return container.metadata_text()
    try:
        return json.dumps(settings.metadata, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say in ASCII only
        return json.dumps(settings.metadata, separators=(",", ":")).encode()


def _holder(fix: Fix) -> Any:
    entries = fix.base.container.tensors.values()
    vectors = {entry.dtype for entry in entries if len(entry.dims) < 2}
    used = {entry.dtype for entry in entries if len(entry.dims) > 1} | set(layout.SAFE_CODES)

    def holds(tensor: TensorInput, foreign: bool) -> bool:
        is_whole = tensor.data.nbytes > 0 or 0 in tensor.dims  # and no placeholder
        fits = is_whole and refusal(declared(tensor), "all") is None
        return fits and (not foreign or tensor.dtype in (used if len(tensor.dims) > 1 else vectors | {"F32"}))

    return holds


def _tensors(fix: Fix, spool: Spool, container: AprContainer) -> tuple[list[TensorSource], dict[str, int]]:
    """All tensors in the order of their data, those made anew in their old places, added ones behind; dtype codes."""
    stored = {source.entry.name: (source, code) for source, code in container.stored()}
    anew = {source.entry.name: source for source in spool.tensors}
    codes = {name: code for name, (_, code) in stored.items() if name not in fix.layout.dropped}
    names = [*codes, *(name for name in anew if name not in codes)]
    for name, source in anew.items():
        check_name(name, container.path)
        if source.entry.dtype not in layout.CODES.get(codes.get(name, -1), ()):
            codes.pop(name, None)  # else it keeps the writer's own word for its dtype
    return [anew[name] if name in anew else stored[name][0] for name in names], codes
