"""Stages that were recorded a chunk of tokens at a time, `layers.0.q@5` from token 5 on, put together.

Letters: T = tokens of the run, N = heads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from rosetta.containers.container import TensorEntry
from rosetta.errors import DamagedFileError

CHUNK = re.compile(r"(.+)@(\d{1,9})")
SCORES = "attn_scores"  # [N, tokens of the chunk, tokens so far]
AGAIN = "record it again, each chunk under the position of its first token"


@dataclass(frozen=True)
class Reading:
    """A stage that is not in the file as it is compared.

    Args:
        sources: the recorded stages that it is read from.
        make: what is made of their values.
    """

    sources: tuple[str, ...]
    make: Callable[..., Tensor]


def joined(
    path: Path, held: Mapping[str, TensorEntry], tokens: int
) -> tuple[dict[str, TensorEntry], dict[str, Reading]]:
    """The stages of a run, and how those are read that lie in the file in chunks.

    Args:
        path: the trace, for messages.
        held: what lies in it.
        tokens: T.

    Raises:
        DamagedFileError: chunks leave tokens out, overlap, or do not fit each other.
    """
    stages: dict[str, TensorEntry] = {}
    chunks: dict[str, list[tuple[int, TensorEntry]]] = {}
    for name, entry in held.items():
        found = CHUNK.fullmatch(name)
        if found is None:
            stages[name] = entry
        else:
            chunks.setdefault(found[1], []).append((int(found[2]), entry))
    readings: dict[str, Reading] = {}
    for name, parts in chunks.items():
        parts.sort(key=lambda part: part[0])
        dims = _dims(path, name, parts, tokens)
        if name in stages:
            raise _damaged(path, name, "is there whole and in chunks")
        size = 4
        for dim in dims:
            size *= dim
        stages[name] = TensorEntry(name, "F32", dims, size)
        sources = tuple(entry.name for _, entry in parts)
        readings[name] = Reading(sources, _together(_axis(name), tokens))
    return stages, readings


def _axis(name: str) -> int:
    """Which axis of a stage counts the tokens of its chunk."""
    return 1 if name.rpartition(".")[2] == SCORES else 0


def _dims(path: Path, name: str, parts: list[tuple[int, TensorEntry]], tokens: int) -> tuple[int, ...]:
    """The dims of a stage whose chunks are whole."""
    axis, end, kinds = _axis(name), 0, set()
    for start, entry in parts:
        if len(entry.dims) <= axis or (axis and len(entry.dims) != 3):
            raise _damaged(path, entry.name, f"has dims {list(entry.dims)}, none of them of tokens")
        if start != end:
            raise _damaged(path, entry.name, f"begins at token {start}, and the chunk before ends at {end}")
        end += entry.dims[axis]
        kinds.add(entry.dims[:1] if axis else entry.dims[1:])
        if axis and not end <= entry.dims[2] <= tokens:
            raise _damaged(path, entry.name, f"has scores of {entry.dims[2]} tokens, and {end} are so far")
    if end != tokens:
        raise _damaged(path, name, f"has {end} tokens in its chunks, and the run {tokens}")
    if len(kinds) > 1:
        raise _damaged(path, name, "has chunks whose other dims differ")
    [rest] = kinds
    return (*rest, tokens, tokens) if axis else (tokens, *rest)


def _together(axis: int, tokens: int) -> Callable[..., Tensor]:
    """The chunks of a stage as one: what a token's scores say of those to come is nothing."""

    def make(*parts: Tensor) -> Tensor:
        whole = [pad(x, (0, tokens - x.shape[-1])) for x in parts] if axis else list(parts)
        return torch.cat(whole, dim=axis)

    return make


def _damaged(path: Path, name: str, what: str) -> DamagedFileError:
    return DamagedFileError(what, file=path, where=f"stage {name!r}", remedy=AGAIN)
