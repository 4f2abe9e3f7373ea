"""Writes a repaired GGUF file: keys, order, alignment, version and byte order as they were, shards joined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rosetta.containers.container import TensorInput
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.containers.gguf.writer import pack_gguf, refusal
from rosetta.containers.spool import Progress, Spool, copied, declared
from rosetta.containers.unfinished import unfinished
from rosetta.repair.changes import ABSENT, Change
from rosetta.repair.fix import Fix, Written, refuse_a_plain_copy, remade, shape
from rosetta.repair.gguf_keys import Keys, state_settings
from rosetta.repair.planned import ROPE_FACTORS

SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


def write_gguf_copy(path: Path, fix: Fix, written: Written, progress: Progress) -> None:
    """Write the repaired copy of a GGUF file.

    Args:
        path: the file to be written.
        fix: what is to be repaired.
        written: where what was done is noted.
        progress: hears how far the writing has come.

    Raises:
        NothingWritten: the file has no place for any of it.
        UsageError: it cannot be written there.
    """
    container = fix.base.container
    assert isinstance(container, GgufContainer)
    header = container.header
    keys = Keys(container.pairs(), header.order, container.metadata)
    if len(container.files) > 1:
        for key in SPLIT_KEYS:
            keys.pairs.pop(key, None)
        written.notes.append(f"the {len(container.files)} shards of {container.path} are joined in one file")
    written.unsaid, factors = state_settings(keys, fix)
    written.changes += keys.changes
    with unfinished(path) as place, Spool(path, place.parent, _tensors(fix, factors, written)) as spool:
        refuse_a_plain_copy(written)
        anew = {tensor.entry.name: tensor for tensor in spool.tensors}
        names = dict.fromkeys([*(planned.name for planned in fix.layout.tensors), *anew])
        pack_gguf(
            place,
            [*keys.pairs.values()],
            [anew[name] if name in anew else copied(container, name) for name in names],
            order=header.order,
            version=header.version,
            alignment=header.alignment,
            progress=progress,
        )


def _tensors(fix: Fix, factors: tuple[float, ...], written: Written) -> Iterator[TensorInput]:
    """The tensors made anew, those of a rope scaling that is stated as factors among them."""
    vectors = {entry.dtype for entry in fix.base.container.tensors.values() if len(entry.dims) < 2}

    def holds(tensor: TensorInput, foreign: bool) -> bool:
        plain = len(tensor.dims) > 1 or tensor.dtype in vectors  # llama.cpp adds and multiplies by F32
        return refusal(declared(tensor)) is None and (plain or not foreign)

    for tensor in remade(fix, holds, written):
        if tensor.name != ROPE_FACTORS:
            yield tensor
    if factors:
        tensor = TensorInput(
            ROPE_FACTORS, "F32", (len(factors),), np.array(factors, np.float32).view(np.uint8)
        )
        old = fix.base.container.tensors.get(ROPE_FACTORS)
        written.changes = [change for change in written.changes if change.subject != ROPE_FACTORS]
        written.changes.append(
            Change(ROPE_FACTORS, shape(old) if old else ABSENT, shape(tensor), "rope.scaling")
        )
        yield tensor
